"""Voxel grids in space, compared at their corner voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "GRID_TOLERANCE_VOXELS",
    "Affine",
    "Grid",
    "corner_distance",
    "grid_difference",
    "same_grid",
    "sizes_in_words",
    "spacing_of",
]

#: Grids closer than this (largest distance between corresponding corner voxels, in voxels) count as equal.
GRID_TOLERANCE_VOXELS = 1e-2

#: ``(4, 4)``, voxel index -> RAS+ mm.
Affine = npt.NDArray[np.float64]


class _OnGrid(Protocol):
    """Whatever has a grid: :class:`~atlaseg.pipeline.io.header.Header`, :class:`Grid`."""

    @property
    def spatial_shape(self) -> tuple[int, ...]: ...
    @property
    def affine(self) -> Affine: ...


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels along each axis, and ``(4, 4)`` voxel index -> RAS+ mm."""

    spatial_shape: tuple[int, ...]
    affine: Affine


def grid_difference(a: _OnGrid, b: _OnGrid) -> str | None:
    """How two grids differ, in words, or ``None`` where they are the same.

    Affines are compared where it matters, at the corner voxels: closer than a hundredth of a voxel is equal.
    """
    if tuple(a.spatial_shape) != tuple(b.spatial_shape):
        return f"shape {_cross(b.spatial_shape)} instead of {_cross(a.spatial_shape)}"
    distance = corner_distance(a.affine, b.affine, a.spatial_shape)
    if distance <= GRID_TOLERANCE_VOXELS * min(spacing_of(a.affine)):
        return None
    shift = np.linalg.norm(a.affine[:3, 3] - b.affine[:3, 3])
    parts = [f"voxels up to {distance:.3g} mm apart", f"origins {shift:.3g} mm apart"]
    if (angle := _rotation_between(a.affine, b.affine)) > 1e-3:
        parts.append(f"axes turned by {angle:.3g} degrees")
    if not np.allclose(spacing_of(a.affine), spacing_of(b.affine), rtol=1e-4):
        parts.append(
            f"voxel size {sizes_in_words(spacing_of(b.affine))} instead of {sizes_in_words(spacing_of(a.affine))} mm"
        )
    return ", ".join(parts)


def corner_distance(a: Affine, b: Affine, spatial_shape: Sequence[int]) -> float:
    """Largest distance in mm between the places that two affines give to the corner voxels of a grid."""
    ends = [(0, n - 1) for n in spatial_shape]
    corners = np.array([(i, j, k, 1) for i in ends[0] for j in ends[1] for k in ends[2]], dtype=float).T
    return float(np.linalg.norm(((a - b) @ corners)[:3], axis=0).max())


def same_grid(a: _OnGrid, b: _OnGrid) -> bool:
    """Whether two grids have the same shape and, to a hundredth of a voxel, the same affine."""
    return grid_difference(a, b) is None


def spacing_of(affine: Affine) -> tuple[float, ...]:
    """Voxel size in mm along each axis of the array."""
    return tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))


def _cross(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape)


def sizes_in_words(spacing: Sequence[float] | npt.NDArray[np.float64]) -> str:
    """Voxel size for messages, such as ``1 x 1 x 2.5``."""
    return " x ".join(f"{s:.4g}" for s in spacing)


def _rotation_between(a: Affine, b: Affine) -> float:
    """Largest angle in degrees between corresponding voxel axes of two affines."""
    first = a[:3, :3] / np.linalg.norm(a[:3, :3], axis=0)
    second = b[:3, :3] / np.linalg.norm(b[:3, :3], axis=0)
    # atan2 of cross and dot products keeps small angles exact where arccos of the dot product loses them.
    sine = np.linalg.norm(np.cross(first.T, second.T), axis=1)
    return float(np.degrees(np.arctan2(sine, (first * second).sum(axis=0))).max())
