"""Displacement fields: any transform sampled on a grid, and a grid of displacements as a transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.frames import affine_of, flip_points, to_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["displacement_transform", "empty_grid", "field_image", "grid_points", "sample_displacements"]


def field_image(transform: Transform, grid: sitk.Image) -> sitk.Image:
    """How far a transform moves each voxel of a grid: ITK's vector image, float64, LPS+ mm.

    Args:
        transform: fixed -> moving points.
        grid: any image; its voxels are not read.
    """
    import SimpleITK as sitk

    return sitk.TransformToDisplacementField(
        transform.itk,
        sitk.sitkVectorFloat64,
        grid.GetSize(),
        grid.GetOrigin(),
        grid.GetSpacing(),
        grid.GetDirection(),
    )


def sample_displacements(transform: Transform, grid: sitk.Image) -> npt.NDArray[np.float64]:
    """Displacement of each voxel of a grid by a transform.

    Args:
        transform: fixed -> moving points.
        grid: any image; its voxels are not read.

    Returns:
        ``(3, x, y, z)``, RAS+ mm: moving point minus fixed point.
    """
    import SimpleITK as sitk

    vectors = sitk.GetArrayFromImage(field_image(transform, grid))
    return np.ascontiguousarray(np.moveaxis(flip_points(vectors), -1, 0).transpose(0, 3, 2, 1))


def displacement_transform(
    displacements: npt.NDArray[np.floating], affine: npt.NDArray[np.float64]
) -> Transform:
    """Transform that moves the voxels of a grid by given displacements, points between them linearly.

    Points outside the grid (more than half a voxel beyond its outermost voxels) stay where they are, as
    ITK's displacement fields have it.

    Args:
        displacements: ``(3, x, y, z)``, RAS+ mm.
        affine: ``(4, 4)`` of the grid, voxel index -> RAS+ mm.

    Raises:
        GeometryError: not ``(3, x, y, z)``, not finite, or the affine is singular.

    >>> shifts = np.zeros((3, 4, 4, 4)); shifts[0] = 2.5
    >>> displacement_transform(shifts, np.eye(4)).points(np.array([[1., 2, 3], [9, 9, 9]])).tolist()
    [[3.5, 2.0, 3.0], [9.0, 9.0, 9.0]]
    """
    import SimpleITK as sitk

    if displacements.ndim != 4 or displacements.shape[0] != 3:
        raise GeometryError(f"displacements must be (3, x, y, z), found shape {displacements.shape}")
    if not np.isfinite(displacements).all():
        raise GeometryError("displacements hold NaN or infinite numbers")
    vectors = flip_points(displacements.astype(np.float64).transpose(3, 2, 1, 0))
    image = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    image.CopyInformation(empty_grid(displacements.shape[1:], affine))
    return Transform(sitk.DisplacementFieldTransform(image))


def empty_grid(shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> sitk.Image:
    """Image of zeros that stands for a grid.

    Args:
        shape: ``(x, y, z)``.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.

    Raises:
        GeometryError: as :func:`atlaseg.atlases.registration.transforms.frames.to_itk`.
    """
    return to_itk(np.zeros(shape, np.uint8), affine)


def grid_points(grid: sitk.Image, step: int = 1) -> npt.NDArray[np.float64]:
    """Centres of every ``step``-th voxel along each axis, ``(n, 3)`` RAS+ mm, the last axis fastest."""
    indices = np.stack(
        np.meshgrid(*[np.arange(0, n, step, dtype=float) for n in grid.GetSize()], indexing="ij"), axis=-1
    ).reshape(-1, 3)
    affine = affine_of(grid)
    points: npt.NDArray[np.float64] = indices @ affine[:3, :3].T + affine[:3, 3]
    return points
