"""Thin-plate splines: the smoothest map that carries landmarks to landmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    grid_points,
)
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError, OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["thin_plate_spline"]

#: Share of the grid's width by which the sampled spline extends beyond it, on each side.
MARGIN = 0.1
#: Points closer to a common plane than this share of their extent do not determine a map of space.
FLATNESS = 1e-3


def thin_plate_spline(
    fixed_points: npt.NDArray[np.float64],
    moving_points: npt.NDArray[np.float64],
    grid: sitk.Image,
    stiffness: float = 0.0,
) -> Transform:
    """Map of space that carries fixed landmarks to moving ones and bends least in between.

    The biharmonic kernel of three dimensions is ``r`` (Bookstein 1989, doi:10.1109/34.24792, has the planar case).
    The spline is the sum of the affine map closest to the landmarks, which holds everywhere, and of a rest that is
    sampled on the grid with a margin of 10%; so between voxels it is linear, and a landmark between voxels is met
    to a part of a voxel.

    Args:
        fixed_points: ``(n, 3)``, RAS+ mm.
        moving_points: where each of them is in the moving image, RAS+ mm.
        grid: the fixed image, or any image on its grid.
        stiffness: 0 meets the landmarks; larger values bend less and leave residuals, for landmarks that are not
            exact (Rohr et al. 2001, doi:10.1109/42.929618); it is added to the kernel's diagonal, in mm.

    Returns:
        fixed -> moving points.

    Raises:
        OptionError: stiffness below 0, or unequal numbers of points.
        GeometryError: fewer than 4 points, points in a plane, or the same fixed point twice.
    """
    from scipy.interpolate import RBFInterpolator

    fixed, moving = _checked(fixed_points, moving_points, stiffness)
    matrix = Transform.closest_affine(fixed, moving).matrix
    # what is left after the affine map, seen in the fixed image; a spline reproduces affine maps, so this is exact
    rest = moving @ np.linalg.inv(matrix)[:3, :3].T + np.linalg.inv(matrix)[:3, 3] - fixed
    try:
        spline = RBFInterpolator(fixed, rest, kernel="linear", degree=1, smoothing=stiffness)
    except np.linalg.LinAlgError as error:
        raise GeometryError("the fixed landmarks do not determine a spline; is one of them twice?") from error
    wide, affine = _widened(grid)
    shifts = spline(grid_points(wide)).reshape(*wide.GetSize(), 3)
    bending = displacement_transform(np.moveaxis(shifts, -1, 0), affine)
    return Transform.compose([bending, Transform.from_matrix(matrix)])


def _checked(
    fixed_points: npt.NDArray[np.float64], moving_points: npt.NDArray[np.float64], stiffness: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    fixed, moving = (np.asarray(points, np.float64) for points in (fixed_points, moving_points))
    if not 0 <= stiffness < np.inf:
        raise OptionError(f"stiffness must be 0 or more, found {stiffness}")
    if fixed.shape != moving.shape:
        raise OptionError(
            f"landmarks come in pairs, found {len(fixed)} fixed and {len(moving)} moving points"
        )
    for name, points in (("fixed", fixed), ("moving", moving)):
        if points.ndim != 2 or points.shape[1:] != (3,) or len(points) < 4:
            raise GeometryError(f"a thin-plate spline needs at least 4 {name} landmarks, found {len(points)}")
        if not np.isfinite(points).all():
            raise GeometryError(f"the {name} landmarks hold NaN or infinite numbers")
        widths = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        if widths[2] <= FLATNESS * widths[0]:
            raise GeometryError(f"the {name} landmarks lie in a plane; add one that is well outside of it")
    if len(np.unique(fixed, axis=0)) < len(fixed):
        raise GeometryError("a fixed landmark occurs twice; leave one of the two out")
    return fixed, moving


def _widened(grid: sitk.Image) -> tuple[sitk.Image, npt.NDArray[np.float64]]:
    """The grid with its margin, and its affine."""
    shape = np.array(grid.GetSize())
    margin = np.ceil(MARGIN * shape).astype(int)
    affine = affine_of(grid)
    affine[:3, 3] -= affine[:3, :3] @ margin
    return empty_grid(tuple((shape + 2 * margin).tolist()), affine), affine
