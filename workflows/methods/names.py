"""The table of methods: what ``--method`` may say, and which part of the house it leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

__all__ = [
    "DEFAULT_METHOD",
    "FUSION_METHODS",
    "KINDS",
    "Kind",
    "Method",
    "find_method",
    "methods",
    "refuse_options_of_others",
]

DEFAULT_METHOD = "unet"

Kind = Literal["network", "atlas", "joined", "classical", "atlas-classical"]

#: Kinds of methods, and what several of a kind are called.
KINDS = {
    "network": "networks",
    "atlas": "atlases",
    "joined": "networks with atlases",
    "classical": "classical methods",
    "atlas-classical": "classical methods with atlases",
    "seeds": "--method region-growing",
}


@dataclass(frozen=True)
class Method:
    """One method of segmentation.

    Args:
        name: as ``--method`` takes it.
        kind: ``network`` (trained), ``atlas`` (registration and label fusion; nothing is trained), ``joined`` (a
            network beside atlases), ``classical`` (clustering, regions, random fields; learns what structures look
            like and where they lie) or ``atlas-classical`` (one that atlases tell where structures lie).
        summary: one line for a person who chooses.
        fusion: name of the fusion rule of an atlas method, a key of
            :data:`atlaseg.atlases.fusion.registry.FUSION_RULES`.
        network: name of the network of a joined method, a key of :data:`atlaseg.pipeline.networks.registry.NETWORKS`.
        classical: name of the classical method that atlases help, a key of
            :data:`atlaseg.pipeline.classical.registry.CLASSICAL_METHODS`.
    """

    name: str
    kind: Kind
    summary: str
    fusion: str | None = None
    network: str | None = None
    classical: str | None = None


_ATLAS_METHODS: tuple[Method, ...] = (
    Method("joint-fusion", "atlas", "votes weighted by patch likeness and shared errors; the best", "joint"),
    Method("majority", "atlas", "each atlas has one vote", "majority"),
    Method("global-weighted", "atlas", "votes weighted by how well the whole image fits", "global-weighted"),
    Method("local-weighted", "atlas", "votes weighted by how well the surroundings fit", "local-weighted"),
    Method("staple", "atlas", "votes weighted by an estimate of each atlas' performance", "staple"),
    Method("generative", "atlas", "a generative model of labels and intensities", "generative"),
)


def _joined(network: str) -> Method:
    """A network that is trained beside atlases."""
    return Method(
        f"atlas-{network}", "joined", f"atlases and {network} together: for few labels", None, network
    )


def _told(classical: str) -> Method:
    """A classical method that atlases tell where structures lie."""
    summary = f"{classical}, told by registered atlases where structures lie"
    return Method(f"atlas-{classical}", "atlas-classical", summary, classical=classical)


#: Method by the name of its fusion rule.
FUSION_METHODS: dict[str, Method] = {str(method.fusion): method for method in _ATLAS_METHODS}


def methods() -> dict[str, Method]:
    """All methods by name: networks, atlases, both together, classical ones, and those with atlases."""
    from atlaseg.pipeline.classical.registry import CLASSICAL_METHODS
    from atlaseg.pipeline.networks.registry import NETWORKS

    networks = [Method(row.name, "network", row.summary) for row in NETWORKS.rows()]
    joined = [_joined(name) for name in NETWORKS]
    classical = [Method(row.name, "classical", row.summary) for row in CLASSICAL_METHODS.rows()]
    told = [_told(row.name) for row in CLASSICAL_METHODS.rows() if row.takes_prior]
    every = (*networks, *_ATLAS_METHODS, *joined, *classical, *told)
    return {method.name: method for method in every}


def find_method(name: str) -> Method:
    """A method by its name.

    Raises:
        OptionError: there is no such method; the message lists all.

    >>> find_method("joint-fusion").fusion
    'joint'
    >>> find_method("unet").kind
    'network'
    """
    from atlaseg.pipeline.errors import OptionError

    known = methods()
    if name not in known:
        of_kind = {
            kind: ", ".join(method.name for method in known.values() if method.kind == kind)
            for kind in ("network", "atlas", "joined", "classical", "atlas-classical")
        }
        raise OptionError(
            f"method {name!r} is not known; choose a network ({of_kind['network']}), an atlas method "
            f"({of_kind['atlas']}), both together ({of_kind['joined']}), a classical one ({of_kind['classical']}) or "
            f"one with atlases ({of_kind['atlas-classical']})"
        )
    return known[name]


def refuse_options_of_others(
    job: Any, options: Mapping[str, tuple[str, ...]], kind: str, subject: str
) -> None:
    """Refuse what was said to a job and means nothing to the kind of method at hand.

    Args:
        job: a dataclass; an option that has its default counts as not said.
        options: kind of method -> fields of the job that some kinds only have; one may belong to several.
        kind: the one at hand.
        subject: what is of that kind, as messages call it.

    Raises:
        OptionError: an option belongs to other kinds.
    """
    from atlaseg.pipeline.errors import OptionError

    defaults = {field.name: field.default for field in fields(job)}
    owners: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for names in options.values() for name in names):
        if getattr(job, name) != defaults[name] and name not in options[kind]:
            having = " and ".join(KINDS[other] for other in options if name in options[other])
            owners.setdefault(having, []).append(f"--{name}")
    for having, said in owners.items():
        raise OptionError(f"{', '.join(said)}: for {having} only, and {subject} is none; leave it out")
