"""The table of networks: a name and a size in, a MONAI bundle component or a network out.

A network is described by a dict such as ``{"_target_": "monai.networks.nets.UNet", "spatial_dims": 3, ...}``
with nothing but data in it. The same dict goes into the bundle's config and is instantiated from Python, so
that the two cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from atlaseg.pipeline.errors import OptionError, PlanError
from atlaseg.pipeline.planning.plan import NetworkPlan
from atlaseg.pipeline.registry import MethodRow, Registry

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "DEPTHS",
    "NETWORKS",
    "NetworkRow",
    "NetworkSize",
    "adapted",
    "build_network",
    "depth_levels",
    "divisor",
    "network_config",
]

DEPTHS: dict[str, int] = {"context": 4, "standard": 3, "precision": 2}
"""Levels down of each named depth: more levels see more context, fewer keep more precise places."""


@dataclass(frozen=True)
class NetworkSize:
    """Arguments of every network, as plain lists (as YAML has them).

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image.
        out_channels: classes, background included.
        channels: features at each resolution, finest first.
        strides: of each level down, one number per axis; one fewer than ``channels``.
        residual_units: convolutions of each residual unit, where the network has them.
        dropout: its probability.
    """

    spatial_dims: int
    in_channels: int
    out_channels: int
    channels: list[int]
    strides: list[list[int]]
    residual_units: int
    dropout: float

    def ports(self) -> dict[str, Any]:
        """Arguments that MONAI's networks have in common."""
        return {
            "spatial_dims": self.spatial_dims,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
        }


@dataclass(frozen=True)
class NetworkRow(MethodRow):
    """A network; ``target`` is a function that makes a MONAI bundle component of a :class:`NetworkSize`.

    Args:
        halves: it halves every axis and doubles its channels at each level down, and has no other sizes.
        first_channels: of the finest level on a CPU, where channels at full resolution cost the most time.
    """

    halves: bool = field(default=False, kw_only=True)
    first_channels: int = field(default=16, kw_only=True)


_MONAI = "atlaseg.pipeline.networks.monai_networks"

#: Names that ``NetworkPlan.name`` may have.
NETWORKS: Registry[NetworkRow] = Registry(
    "network",
    NetworkRow,
    (
        NetworkRow(
            "unet",
            "U-Net with residual units; the default",
            f"{_MONAI}:unet",
            source="Kerfoot et al., STACOM 2018, https://doi.org/10.1007/978-3-030-12029-0_40",
            first_channels=32,  # its first convolution halves the resolution
        ),
        NetworkRow(
            "attention-unet",
            "U-Net whose skip connections are gated by attention",
            f"{_MONAI}:attention_unet",
            source="Oktay et al., MIDL 2018, https://arxiv.org/abs/1804.03999",
        ),
        NetworkRow(
            "fcn",
            "fully convolutional network with several heads; light",
            "atlaseg.pipeline.networks.fcn:component",
            source="Long et al., CVPR 2015, https://arxiv.org/abs/1411.4038",
        ),
        NetworkRow(
            "dynunet",
            "U-Net with kernels that follow the voxel size, as nnU-Net builds it",
            f"{_MONAI}:dynunet",
            source="Isensee et al., Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z",
        ),
        NetworkRow(
            "segresnet",
            "residual encoder and a light decoder",
            f"{_MONAI}:segresnet",
            source="Myronenko, BrainLes 2018, https://arxiv.org/abs/1810.11654",
            halves=True,
        ),
    ),
    group="atlaseg.networks",
)


def depth_levels(name: str) -> int:
    """Levels down of a named depth.

    Raises:
        OptionError: there is no such depth.

    >>> depth_levels("precision")
    2
    """
    if name not in DEPTHS:
        raise OptionError(f"depth {name!r} is not known; choose one of {', '.join(DEPTHS)}")
    return DEPTHS[name]


def divisor(network: NetworkPlan) -> tuple[int, int, int]:
    """Number per axis of which a patch's size must be a multiple: the product of the strides.

    >>> divisor(NetworkPlan(strides=((1, 2, 2), (2, 2, 2), (2, 2, 2))))
    (4, 8, 8)
    """
    strides = adapted(network).strides
    return (
        math.prod(s[0] for s in strides),
        math.prod(s[1] for s in strides),
        math.prod(s[2] for s in strides),
    )


def adapted(network: NetworkPlan) -> NetworkPlan:
    """The nearest size that the named network can have.

    Most take any channels and strides. Some, such as SegResNet, halve every axis and double their channels at each
    level down, which leaves them the choice of the first number of channels and of the number of levels.

    Raises:
        OptionError: there is no such network.

    >>> adapted(NetworkPlan("segresnet", channels=(16, 32, 40), strides=((1, 2, 2), (2, 2, 2)))).channels
    (16, 32, 64)
    """
    if not NETWORKS.find(network.name).halves:
        return network
    levels = len(network.strides)
    channels = tuple(network.channels[0] * 2**level for level in range(levels + 1))
    return replace(network, channels=channels, strides=((2, 2, 2),) * levels)


def network_config(
    network: NetworkPlan, *, spatial_dims: int, in_channels: int, out_channels: int, patch_size: Sequence[int]
) -> dict[str, Any]:
    """MONAI bundle component of a network, holding only data: numbers, text, lists.

    Args:
        network: its name and size. In 2-D the first two numbers of each stride count.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes, background included.
        patch_size: ``spatial_dims`` voxels; what the network will be trained on.

    Raises:
        OptionError: there is no such network, or ``spatial_dims`` is neither 2 nor 3.
        PlanError: the network cannot have these channels or strides, or the patch is no multiple of
            :func:`divisor` or so small that one voxel is left at the deepest level.

    >>> config = network_config(NetworkPlan(), spatial_dims=3, in_channels=1, out_channels=3,
    ...     patch_size=(40, 56, 40))
    >>> config["_target_"], config["strides"][0]
    ('monai.networks.nets.UNet', [2, 2, 2])
    """
    _check_size(network, spatial_dims, patch_size)
    made: dict[str, Any] = NETWORKS.load(network.name)(
        NetworkSize(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=list(network.channels),
            strides=[list(stride[:spatial_dims]) for stride in network.strides],
            residual_units=network.residual_units,
            dropout=network.dropout,
        )
    )
    return made


def build_network(
    network: NetworkPlan, *, spatial_dims: int, in_channels: int, out_channels: int, patch_size: Sequence[int]
) -> nn.Module:
    """The network that :func:`network_config` describes, freshly initialised from torch's random state.

    It maps images ``(B, in_channels, *S)`` to scores ``(B, out_channels, *S)`` before the softmax, where
    every size is a multiple of :func:`divisor`. Arguments and errors are those of :func:`network_config`.
    """
    from monai.utils import instantiate

    config = network_config(
        network,
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        patch_size=patch_size,
    )
    # not by ConfigParser, which looks through every module of MONAI for each network
    built: nn.Module = instantiate(config.pop("_target_"), "default", **config)
    return built


def _check_size(network: NetworkPlan, spatial_dims: int, patch_size: Sequence[int]) -> None:
    possible = adapted(network)
    if spatial_dims not in (2, 3):
        raise OptionError(f"spatial_dims must be 2 or 3, found {spatial_dims}")
    if len(network.channels) != len(network.strides) + 1 or not network.strides:
        raise PlanError(
            f"network: {len(network.strides)} strides need {len(network.strides) + 1} channels (and at least "
            f"one stride), found {len(network.channels)}"
        )
    if (network.channels, [s[:spatial_dims] for s in network.strides]) != (
        possible.channels,
        [s[:spatial_dims] for s in possible.strides],
    ):
        raise PlanError(
            f"network {network.name} halves every axis and doubles its channels at each level down: expected "
            f"channels {list(possible.channels)} and strides of 2, found {list(network.channels)} and "
            f"{[list(s) for s in network.strides]}; choose unet or dynunet for other sizes"
        )
    factors = divisor(network)[:spatial_dims]
    if len(patch_size) != spatial_dims or any(
        p % f or p < f for p, f in zip(patch_size, factors, strict=False)
    ):
        raise PlanError(
            f"patch_size {list(patch_size)}: network {network.name} needs multiples of {list(factors)}"
        )
    if all(p == f for p, f in zip(patch_size, factors, strict=True)):
        raise PlanError(
            f"patch_size {list(patch_size)} leaves a single voxel at the deepest level of network "
            f"{network.name}: double at least one axis, or choose fewer levels"
        )
