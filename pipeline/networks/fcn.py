"""Fully convolutional network: an encoder and summed score maps, no decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution
from torch import nn
from torch.nn import functional

from atlaseg.pipeline.networks.registry import NetworkSize

__all__ = ["FCN", "component"]


class FCN(nn.Module):
    """Fully convolutional network in 2-D or 3-D, after Long, Shelhamer and Darrell (CVPR 2015).

    The network that skip connections are measured against. An encoder of convolutions and max pooling makes
    features at ever coarser resolutions; a 1x1 convolution at each of the deepest ``heads`` resolutions
    scores the classes there. The coarsest scores are enlarged by linear interpolation, the next finer ones
    are added, and so on; the sum is enlarged to the input's size (three heads: the paper's FCN-8s). No
    feature of the encoder reaches the output except through these few score maps, so outlines are as coarse
    as the finest head.

    Differences from the paper: convolutions are followed by instance normalisation instead of starting from
    an ImageNet-trained VGG net, the enlargement is fixed, and scores are never taken at full resolution.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: classes ``K``.
        channels: feature channels at each resolution, finest first.
        strides: pooling factor per axis between two resolutions; one fewer than ``channels``.
        heads: number of resolutions that are scored, the deepest ones; at most ``len(strides)``.
        dropout: dropout probability in the deepest block, where the paper has it.

    Raises:
        ValueError: the numbers of channels, strides and heads do not fit together.

    >>> net = FCN(2, in_channels=1, out_channels=3, channels=(4, 8, 8), strides=((2, 2), (2, 2)), heads=2)
    >>> tuple(net(torch.zeros(1, 1, 24, 16)).shape)
    (1, 3, 24, 16)
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        heads: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(channels) != len(strides) + 1:
            raise ValueError(
                f"{len(channels)} channels need {len(channels) - 1} strides, found {len(strides)}"
            )
        if not 1 <= heads <= len(strides):
            raise ValueError(f"heads must lie between 1 and {len(strides)}, found {heads}")
        pooling = nn.MaxPool2d if spatial_dims == 2 else nn.MaxPool3d
        self.interpolation = "bilinear" if spatial_dims == 2 else "trilinear"
        self.levels = nn.ModuleList()
        inputs = in_channels
        for level, features in enumerate(channels):
            deepest = level == len(strides)
            block = _block(spatial_dims, inputs, features, dropout if deepest else 0.0)
            if level > 0:
                factor = tuple(strides[level - 1])
                block.insert(0, pooling(kernel_size=factor, stride=factor))
            self.levels.append(block)
            inputs = features
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.scores = nn.ModuleList(convolution(c, out_channels, kernel_size=1) for c in channels[-heads:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores ``(B, K, *S)`` before the softmax for images ``(B, C, *S)``; sizes need not be multiples."""
        size = x.shape[2:]
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        scored = [s(f) for s, f in zip(self.scores, features[-len(self.scores) :], strict=True)]
        total = scored.pop()
        while scored:
            finer = scored.pop()
            total = finer + self._enlarge(total, finer.shape[2:])
        return self._enlarge(total, size)

    def _enlarge(self, scores: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        return functional.interpolate(scores, size=tuple(size), mode=self.interpolation, align_corners=False)


def component(size: NetworkSize) -> dict[str, Any]:
    """The network as a component of a MONAI bundle, with the paper's three heads where there are so many levels."""
    return {
        "_target_": "atlaseg.pipeline.networks.fcn.FCN",
        **size.ports(),
        "channels": size.channels,
        "strides": size.strides,
        "heads": min(3, len(size.strides)),
        "dropout": size.dropout,
    }


def _block(spatial_dims: int, inputs: int, features: int, dropout: float) -> nn.Sequential:
    """Two 3x3 convolutions, each with instance normalisation and ReLU."""
    return nn.Sequential(
        *(
            Convolution(
                spatial_dims, n, features, kernel_size=3, act="RELU", norm="INSTANCE", dropout=dropout
            )
            for n in (inputs, features)
        )
    )
