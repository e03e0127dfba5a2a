"""The networks that MONAI has, as components of its bundles."""

from __future__ import annotations

import math
from typing import Any

from atlaseg.pipeline.errors import PlanError
from atlaseg.pipeline.networks.registry import NetworkSize

__all__ = ["attention_unet", "dynunet", "segresnet", "unet"]


def unet(size: NetworkSize) -> dict[str, Any]:
    """MONAI's U-Net with residual units."""
    return {
        "_target_": "monai.networks.nets.UNet",
        **size.ports(),
        "channels": size.channels,
        "strides": size.strides,
        "num_res_units": size.residual_units,
        # MONAI's default, PReLU, makes a training step on a CPU a tenth slower and no more accurate
        "act": ["leakyrelu", {"negative_slope": 0.01, "inplace": True}],
        "dropout": size.dropout,
    }


def attention_unet(size: NetworkSize) -> dict[str, Any]:
    """MONAI's attention U-Net."""
    return {
        "_target_": "monai.networks.nets.AttentionUnet",
        **size.ports(),
        "channels": size.channels,
        "strides": size.strides,
        "dropout": size.dropout,
    }


def dynunet(size: NetworkSize) -> dict[str, Any]:
    """MONAI's dynamic U-Net, with kernels that follow the voxel size.

    Raises:
        PlanError: there are fewer than two levels down.
    """
    if len(size.strides) < 2:
        raise PlanError(f"network dynunet needs at least 2 levels down, found {len(size.strides)}")
    return {
        "_target_": "monai.networks.nets.DynUNet",
        **size.ports(),
        "kernel_size": _kernels(size.strides),
        "strides": [[1] * size.spatial_dims, *size.strides],
        "upsample_kernel_size": size.strides,
        "filters": size.channels,
        "dropout": size.dropout or None,
        "deep_supervision": False,
    }


def _kernels(strides: list[list[int]]) -> list[list[int]]:
    """Kernel sizes at each resolution: 1 along an axis as long as others are pooled before it, else 3.

    An axis that is not pooled at first is one along which voxels are long: neighbours there are far away and
    are not mixed until the other axes have become as coarse (Isensee et al., Nature Methods 18, 2021).
    """
    kernels = []
    waiting = [True] * len(strides[0])
    for stride in strides:
        waiting = [w and s == 1 and max(stride) > 1 for w, s in zip(waiting, stride, strict=True)]
        kernels.append([1 if w else 3 for w in waiting])
    return [*kernels, [3] * len(strides[0])]


def segresnet(size: NetworkSize) -> dict[str, Any]:
    """MONAI's SegResNet, without its variational branch."""
    levels = len(size.strides)
    first = size.channels[0]
    return {
        "_target_": "monai.networks.nets.SegResNet",
        **size.ports(),
        "init_filters": first,
        "dropout_prob": size.dropout or None,
        "norm": ["GROUP", {"num_groups": math.gcd(8, first)}],
        "blocks_down": [1, *[2] * (levels - 1), 4],
        "blocks_up": [1] * levels,
    }
