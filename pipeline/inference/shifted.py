"""Test-time augmentation by shifts: predict windows that start a few voxels elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import pad

__all__ = ["ShiftedNetwork", "spread_shifts"]


def spread_shifts(count: int, period: Sequence[int]) -> list[tuple[int, ...]]:
    """Shifts that fill the box of ``period`` evenly, the first of them zero.

    The additive recurrence of the generalised golden ratio, which in three dimensions spreads better than
    random numbers (M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018).

    Args:
        count: how many.
        period: voxels along each axis after which a shift repeats itself.

    >>> spread_shifts(3, (8, 8, 8))
    [(0, 0, 0), (6, 5, 4), (5, 2, 0)]
    """
    dims = len(period)
    ratio = 2.0
    for _ in range(64):  # the root of x**(d + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (dims + 1))
    return [
        tuple(math.floor((n * ratio ** -(axis + 1)) % 1.0 * size) for axis, size in enumerate(period))
        for n in range(count)
    ]


class ShiftedNetwork(nn.Module):
    """A network whose sampling grid lies elsewhere.

    A network that halves the resolution ``n`` times treats a voxel according to its place modulo ``2 ** n``, and
    errs differently at each. Windows are padded by repetition of their edge voxels so that every voxel gets to
    another place, and the result is cut back.

    Args:
        network: ``(B, C, *patch) -> (B, K, *patch)``.
        shift: voxels by which windows are shifted along each axis, less than ``period``.
        period: the network's divisor along each axis.
    """

    def __init__(self, network: nn.Module, shift: Sequence[int], period: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.shift = tuple(shift)
        self.period = tuple(period)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Logits ``(B, K, *patch)`` of windows ``(B, C, *patch)``."""
        widths = []
        for shift, period in reversed(list(zip(self.shift, self.period, strict=True))):
            widths += [shift, (period - shift) % period]
        larger = pad(windows, widths, mode="replicate")
        if larger.ndim == 5:
            larger = larger.contiguous(memory_format=torch.channels_last_3d)
        logits: torch.Tensor = self.network(larger)
        for axis, shift in enumerate(self.shift, start=2):
            logits = logits.narrow(axis, shift, windows.shape[axis])
        return logits
