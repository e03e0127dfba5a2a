"""Volumes on regular grids as torch tensors: sampled, smoothed and differentiated on any device.

Smoothing along an axis is a product with a banded matrix. On volumes of the size of a scan that is faster than a
convolution on one core (0.7 ms against 1.9 ms for three channels of 60 000 voxels and 15 taps), its transpose is
exact, and the ends of the axis are no special case: each row of the matrix sums to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as nnf

__all__ = ["Lattice", "box", "derivative", "gaussian", "sample", "smooth", "transposed"]

#: Rows of a banded matrix that are multiplied at once on long axes, where most of the matrix is zero.
_BLOCK = 64
#: Gaussians are cut off at so many standard deviations.
_CUT = 3.0


@dataclass(frozen=True)
class Lattice:
    """Points at regular distances in a volume, in voxels of that volume.

    Args:
        shape: points along each axis.
        step: distance between them.
        offset: of the first.
    """

    shape: tuple[int, int, int]
    step: tuple[float, float, float]
    offset: tuple[float, float, float]

    @classmethod
    def shrunk(cls, shape: Sequence[int], factors: Sequence[int], fewest: int = 4) -> Self:
        """Centres of equal blocks of about ``factors`` voxels that tile a volume.

        >>> Lattice.shrunk((8, 8, 9), (2, 1, 2))
        Lattice(shape=(4, 8, 5), step=(2.0, 1.0, 1.8), offset=(0.5, 0.0, 0.4))
        """
        count = [max(min(fewest, n), math.ceil(n / f)) for n, f in zip(shape, factors, strict=True)]
        x, y, z = (n / c for n, c in zip(shape, count, strict=True))
        return cls(
            (count[0], count[1], count[2]),
            (x, y, z),
            (round((x - 1) / 2, 9), round((y - 1) / 2, 9), round((z - 1) / 2, 9)),
        )

    def indices(self, device: torch.device) -> torch.Tensor:
        """``(3, *shape)`` float32: index of each point in the lattice."""
        axes = [torch.arange(n, dtype=torch.float32, device=device) for n in self.shape]
        return torch.stack(torch.meshgrid(axes, indexing="ij"))

    def points(self, device: torch.device) -> torch.Tensor:
        """``(3, *shape)`` float32: place of each point in the volume, voxels."""
        return self.indices(device) * self.steps(device) + _column(self.offset, device)

    def steps(self, device: torch.device) -> torch.Tensor:
        """``(3, 1, 1, 1)``."""
        return _column(self.step, device)

    def within(self, points: torch.Tensor) -> torch.Tensor:
        """Places in the volume as places in the lattice, ``(3, ...)``."""
        device = points.device
        return (points - _column(self.offset, device)) / self.steps(device)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None, None]


def sample(volume: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Linear interpolation of a volume at points; beyond its outermost voxels their values are repeated.

    Args:
        volume: ``(C, x, y, z)``, at least two voxels along each axis.
        places: ``(3, *out)``, voxels of the volume.

    Returns:
        ``(C, *out)``.
    """
    # grid_sample counts axes from the last, from -1 to 1
    scaled = [places[axis] * (2 / (volume.shape[axis + 1] - 1)) - 1 for axis in (2, 1, 0)]
    grid = torch.stack(scaled, dim=-1)[None]
    found = nnf.grid_sample(volume[None], grid, mode="bilinear", padding_mode="border", align_corners=True)
    return found[0]


def gaussian(
    shape: Sequence[int], sigma: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """Matrix for each axis that smooths by a Gaussian, cut off at three standard deviations.

    Args:
        shape: of the volume.
        sigma: standard deviation along each axis, voxels; 0 for none.
        device: of the matrices.
        dtype: of the matrices.
    """
    made = []
    for n, s in zip(shape, sigma, strict=True):
        distance = _distances(n)
        weights = torch.exp(-0.5 * (distance / s) ** 2) if s > 0 else (distance == 0).double()
        weights[distance.abs() > max(1, math.ceil(_CUT * s))] = 0
        made.append(_rows_of_one(weights).to(device, dtype))
    return made


def box(
    shape: Sequence[int], radius: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """Matrix for each axis that takes the mean of a window of ``2 radius + 1`` voxels, less at the ends."""
    return [_rows_of_one((_distances(n).abs() <= radius).double()).to(device, dtype) for n in shape]


def transposed(matrices: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The adjoint of a smoothing: from what means depend on, to what depends on them."""
    return [matrix.T.contiguous() for matrix in matrices]


def _distances(n: int) -> torch.Tensor:
    index = torch.arange(n, dtype=torch.float64)
    return index[:, None] - index[None]


def _rows_of_one(weights: torch.Tensor) -> torch.Tensor:
    return weights / weights.sum(dim=1, keepdim=True)


def smooth(volumes: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """Volumes ``(..., x, y, z)`` multiplied by a banded matrix along each of their last three axes."""
    x, y, z = matrices
    done = _product(z, volumes.transpose(-1, -2)).transpose(-1, -2)
    done = _product(y, done)
    shape = done.shape
    return _product(x, done.reshape(*shape[:-2], shape[-2] * shape[-1])).reshape(shape)


def _product(matrix: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """``matrix @ columns``, without what is zero in a long banded matrix."""
    n = len(matrix)
    if n <= 2 * _BLOCK:
        return torch.matmul(matrix, columns)
    parts = []
    for start in range(0, n, _BLOCK):
        rows = matrix[start : start + _BLOCK]
        used = rows.any(dim=0).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        parts.append(torch.matmul(rows[:, first:last], columns[..., first:last, :]))
    return torch.cat(parts, dim=-2)


def derivative(volume: torch.Tensor) -> torch.Tensor:
    """Central differences of ``(x, y, z)`` along each axis, one-sided at the ends: ``(3, x, y, z)``, per voxel."""
    return torch.stack(torch.gradient(volume))
