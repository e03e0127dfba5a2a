"""The table of methods: what ``--method`` may say, and which part of the house it leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DEFAULT_METHOD", "FUSION_METHODS", "Method", "find_method", "methods"]

DEFAULT_METHOD = "unet"


@dataclass(frozen=True)
class Method:
    """One method of segmentation.

    Args:
        name: as ``--method`` takes it.
        kind: ``network`` (trained) or ``atlas`` (registration and label fusion; nothing is trained).
        summary: one line for a person who chooses.
        fusion: name of the fusion rule of an atlas method, a key of :data:`atlases.fusion.table.FUSION_RULES`.
    """

    name: str
    kind: Literal["network", "atlas"]
    summary: str
    fusion: str | None = None


_NETWORK_SUMMARIES: dict[str, str] = {
    "unet": "U-Net with residual units; the default",
    "attention-unet": "U-Net whose skip connections are gated by attention",
    "fcn": "fully convolutional network with several heads; light",
    "dynunet": "U-Net with kernels that follow the voxel size, as nnU-Net builds it",
    "segresnet": "residual encoder and a light decoder",
}

_ATLAS_METHODS: tuple[Method, ...] = (
    Method("joint-fusion", "atlas", "votes weighted by patch likeness and shared errors; the best", "joint"),
    Method("majority", "atlas", "each atlas has one vote", "majority"),
    Method("global-weighted", "atlas", "votes weighted by how well the whole image fits", "global-weighted"),
    Method("local-weighted", "atlas", "votes weighted by how well the surroundings fit", "local-weighted"),
    Method("staple", "atlas", "votes weighted by an estimate of each atlas' performance", "staple"),
    Method("generative", "atlas", "a generative model of labels and intensities", "generative"),
)

#: Method by the name of its fusion rule.
FUSION_METHODS: dict[str, Method] = {str(method.fusion): method for method in _ATLAS_METHODS}


def methods() -> dict[str, Method]:
    """All methods by name, networks first."""
    from pipeline.networks.table import NETWORKS

    networks = [Method(name, "network", _NETWORK_SUMMARIES[name]) for name in NETWORKS]
    return {method.name: method for method in (*networks, *_ATLAS_METHODS)}


def find_method(name: str) -> Method:
    """A method by its name.

    Raises:
        OptionError: there is no such method; the message lists all.

    >>> find_method("joint-fusion").fusion
    'joint'
    >>> find_method("unet").kind
    'network'
    """
    from pipeline.errors import OptionError

    known = methods()
    if name not in known:
        of_kind = {
            kind: ", ".join(method.name for method in known.values() if method.kind == kind)
            for kind in ("network", "atlas")
        }
        raise OptionError(
            f"method {name!r} is not known; choose a network ({of_kind['network']}) or an atlas method "
            f"({of_kind['atlas']})"
        )
    return known[name]
