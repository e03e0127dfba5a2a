"""A coarse lattice of B-spline control points that maps each voxel of a patch to its source."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["Lattice"]

# A cubic B-spline averages its control points: at a lattice point with weights 1/6, 2/3, 1/6 along each
# axis. The standard deviation of independent control points shrinks there to the root of the sum of the
# squared weights.
_SHRINKAGE = math.sqrt(1 / 36 + 16 / 36 + 1 / 36) ** 3


class Lattice:
    """Control points around the centre of a patch, and the places of its voxels that follow from them.

    A displacement given at a few points is carried to every voxel by tensor-product cubic B-splines
    (Rueckert et al., IEEE TMI 18, 1999), which are twice continuously differentiable. They also reproduce
    rotation and scaling exactly, so the whole motion is put into the control points (a few hundred) and
    spread to the voxels once, by one small matrix product per axis.

    Args:
        patch_size: voxels of the patch on each of three axes.
        spacing: voxel size in mm.
        grid_mm: distance between control points in mm, the same on every axis.

    Raises:
        OptionError: a number that is not positive.
    """

    def __init__(self, patch_size: Sequence[int], spacing: Sequence[float], grid_mm: float) -> None:
        if len(patch_size) != 3 or len(spacing) != 3 or not min(*patch_size, *spacing, grid_mm) > 0:
            raise OptionError(
                f"patch_size and spacing take three numbers above 0 and grid_mm one, found "
                f"{list(patch_size)}, {list(spacing)} and {grid_mm}"
            )
        self.patch_size = tuple(int(n) for n in patch_size)
        self.spacing = tuple(float(s) for s in spacing)
        self.grid_mm = float(grid_mm)
        cells = [
            max(1, math.ceil((n - 1) * s / grid_mm))
            for n, s in zip(self.patch_size, self.spacing, strict=True)
        ]
        self.shape = tuple(n + 3 for n in cells)
        axes = [(torch.arange(n + 3, dtype=torch.float32) - 1 - n / 2) * grid_mm for n in cells]
        self._points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        self._bases = [
            _basis(p, s / grid_mm, n) for p, s, n in zip(self.patch_size, self.spacing, cells, strict=True)
        ]

    def control_displacement(self, noise: Tensor, elastic_mm: float) -> Tensor:
        """Standard normal numbers -> control points whose displacement has a deviation of ``elastic_mm``.

        The deviation is that of each component of the resulting displacement at the lattice's points, in mm.
        """
        return noise * (elastic_mm / _SHRINKAGE)

    def coordinates(self, matrix: Tensor, displacement: Tensor, centre: Sequence[float]) -> Tensor:
        """Places in the source volume from which the patch's voxels are taken (pull-back).

        With ``d`` the offset of a voxel from the patch's centre in mm, the place is ``centre + (A d + u(d)) /
        spacing``, where ``u`` is the spline through the control displacements.

        Args:
            matrix: ``(B, 3, 3)``, ``A``: rotation and scaling in mm about the patch's centre.
            displacement: ``(B, 3, *shape)`` of the control points, in mm along the array's axes.
            centre: of the patch in voxels of the source.

        Returns:
            ``(B, 3, *patch_size)`` float32, in voxels of the source.

        Raises:
            GeometryError: the shapes do not fit.
        """
        if displacement.shape[1:] != (3, *self.shape) or matrix.shape != (len(displacement), 3, 3):
            raise GeometryError(
                f"expected matrices (B, 3, 3) and displacements (B, 3, {', '.join(map(str, self.shape))}), "
                f"found {tuple(matrix.shape)} and {tuple(displacement.shape)}"
            )
        self._move_to(displacement.device)
        batch = len(displacement)
        points = (matrix @ self._points.flatten(1)).view(batch, 3, *self.shape) + displacement
        per_voxel = torch.tensor(self.spacing, device=points.device).view(3, 1, 1, 1)
        middle = torch.tensor([float(c) for c in centre], device=points.device).view(3, 1, 1, 1)
        points = points / per_voxel + middle
        first, second, third = self._bases
        points = second @ (points @ third.T)
        return (first @ points.flatten(3)).view(batch, 3, *self.patch_size)

    def _move_to(self, device: torch.device) -> None:
        if self._points.device != device:
            self._points = self._points.to(device)
            self._bases = [basis.to(device) for basis in self._bases]


def _basis(voxels: int, cells_per_voxel: float, cells: int) -> Tensor:
    """Cubic B-spline weights ``(voxels, cells + 3)`` of the control points at each voxel of one axis."""
    place = (torch.arange(voxels, dtype=torch.float64) - (voxels - 1) / 2) * cells_per_voxel + cells / 2
    cell = place.floor().clamp(0, cells - 1)
    t = place - cell
    weights = torch.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], dim=1
    ).div_(6)
    basis = torch.zeros(voxels, cells + 3, dtype=torch.float64)
    basis.scatter_(1, cell.to(torch.int64)[:, None] + torch.arange(4), weights)
    return basis.float()
