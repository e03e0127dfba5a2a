"""The mean shape of a population: the average of the transforms that carry a template to its members.

Guimond et al., Computer Vision and Image Understanding 77:192-210 (2000), doi:10.1006/cviu.1999.0815: a template that
is moved by the inverse of the mean deformation loses the shape of the scan that it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.displacement import displacement_transform, grid_points
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError, OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["MeanShape", "affine_part", "closest_rotation", "mean_shape", "mean_stretch"]

Matrix = npt.NDArray[np.float64]

#: Points at most at which the affine part of a transform is found.
_AFFINE_POINTS = 20_000


class MeanShape(NamedTuple):
    """Average position, over the members of a population, of each point of the template.

    Args:
        transform: template -> mean position; its inverse moves the template into the mean shape.
        displacement_mm: how far the deformable part moves a voxel, mean over the region.
        affine_mm: how far the affine part moves a voxel, mean over the region.
    """

    transform: Transform
    displacement_mm: float
    affine_mm: float


def mean_stretch(matrices: Sequence[Matrix]) -> Matrix:
    """Mean of the stretches of affine mappings, their rotations set aside: the exponential of the mean of logarithms.

    Each matrix is a symmetric stretch, then a rotation (polar decomposition). The mean of the logarithms makes no
    difference between twice as long and half as long: Arsigny et al., SIAM Journal on Matrix Analysis and Applications
    29:328-347 (2007), doi:10.1137/050637996.

    Args:
        matrices: ``(3, 3)`` each.

    Returns:
        ``(3, 3)`` symmetric.

    Raises:
        OptionError: there is no matrix.
        GeometryError: a mapping is singular, or mirrors.

    >>> mean_stretch([np.diag([2.0, 1, 1]), np.diag([0.5, 1, 1])]).round(6).tolist()[0]
    [1.0, 0.0, 0.0]
    """
    from scipy.linalg import expm, logm, polar

    if not matrices:
        raise OptionError("a mean needs at least one affine mapping")
    total = np.zeros((3, 3))
    for matrix in matrices:
        if np.linalg.det(matrix) <= 0:
            raise GeometryError(
                "an atlas is mirrored beside the template, so that their shapes have no mean: check its header"
            )
        total += np.real(logm(polar(matrix)[1]))
    return np.asarray(expm(total / len(matrices)), np.float64)


def closest_rotation(matrix: Matrix, centre: npt.NDArray[np.float64]) -> Matrix:
    """Rigid mapping closest to an affine one: its rotation (polar decomposition), and the same image of a centre.

    Args:
        matrix: ``(4, 4)``, mm, without reflection.
        centre: ``(3,)`` point that both map to the same place.
    """
    from scipy.linalg import polar

    rigid = np.eye(4)
    rigid[:3, :3] = polar(matrix[:3, :3])[0]
    rigid[:3, 3] = matrix[:3, :3] @ centre + matrix[:3, 3] - rigid[:3, :3] @ centre
    return rigid


def affine_part(transform: Transform, grid: sitk.Image) -> Matrix:
    """``(4, 4)`` affine mapping closest to a transform over a grid (least squares); a linear one as it is."""
    if transform.is_linear:
        return transform.matrix
    step = max(1, int(np.ceil((np.prod(grid.GetSize()) / _AFFINE_POINTS) ** (1 / 3))))
    points = grid_points(grid, step)
    return Transform.closest_affine(points, transform.points(points)).matrix


def mean_shape(
    transforms: Sequence[Transform], grid: sitk.Image, region: npt.NDArray[np.bool_] | None = None
) -> MeanShape:
    """Mean of the transforms from a template to the members of a population.

    Each transform is split into the pose of the scan (rigid: how the head lay in the scanner, which says nothing), a
    stretch about the centre of the grid, and the rest: ``T(x) = P S (x + d(x))``. Stretches are averaged by their
    logarithms, displacements ``d`` as they are: ``M(x) = S_mean (x + d_mean(x))``. The template keeps its own pose.

    Args:
        transforms: template -> member, one for each.
        grid: of the template.
        region: ``(x, y, z)`` on it, where the figures are taken; ``None``: everywhere.

    Raises:
        OptionError: there is no transform.
        GeometryError: a transform mirrors, or carries the grid into a plane.
    """
    points = grid_points(grid)
    centre = points.mean(axis=0)
    affines = [affine_part(transform, grid) for transform in transforms]
    mean = np.eye(4)
    mean[:3, :3] = mean_stretch([affine[:3, :3] for affine in affines])
    mean[:3, 3] = centre - mean[:3, :3] @ centre
    linear = Transform.from_matrix(mean)
    counted = np.ones(len(points), bool) if region is None else region.ravel()
    shifts = np.linalg.norm(points @ mean[:3, :3].T + mean[:3, 3] - points, axis=1)
    affine_mm = float(shifts[counted].mean())
    if all(transform.is_linear for transform in transforms):
        return MeanShape(linear, 0.0, affine_mm)
    displacements = np.zeros_like(points)
    for transform, affine in zip(transforms, affines, strict=True):
        back = np.linalg.inv(affine)
        displacements += transform.points(points) @ back[:3, :3].T + back[:3, 3] - points
    displacements /= len(transforms)
    field = displacement_transform(
        np.moveaxis(displacements.reshape(*grid.GetSize(), 3), -1, 0), affine_of(grid)
    )
    lengths = np.linalg.norm(displacements, axis=1)
    return MeanShape(Transform.compose([field, linear]), float(lengths[counted].mean()), affine_mm)
