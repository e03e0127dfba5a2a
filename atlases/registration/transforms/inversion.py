"""Inverse transforms: exact where the mapping is linear or its inverse known, by iteration with a stated error else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    grid_points,
)
from atlaseg.atlases.registration.transforms.domains import spline_cells
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.registration.transforms.jacobian import jacobian_determinant
from atlaseg.atlases.registration.transforms.transform import Transform, parts_of
from atlaseg.pipeline.errors import GeometryError, OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["Inverse", "domain_of", "invert"]

ITERATIONS = 100
#: Points that are moved by less than this share of a voxel in one iteration are done.
ENOUGH = 1e-4
#: Voxels beyond the grid on each side, so that points that T^-1 moves in from there have an inverse too.
MARGIN = 3
#: An inverse that is not exact enough is sought again on a grid twice as fine, if that has no more voxels than this.
MOST_FINE_VOXELS = 6_000_000


class Inverse(NamedTuple):
    """An inverse with its error.

    Args:
        transform: moving -> fixed points; its known inverse is the transform that was inverted.
        error_mm: largest distance of ``T(T^-1(y))`` from ``y``, where ``y`` are the voxels of the grid, moved by ``T``.
        mean_error_mm: mean of these distances.
    """

    transform: Transform
    error_mm: float
    mean_error_mm: float


def invert(
    transform: Transform, grid: sitk.Image | None = None, tolerance_mm: float | None = None
) -> Inverse:
    """Transform back, from moving to fixed points.

    Linear transforms are inverted exactly, and known inverses (SyN's) are used where they are within the tolerance.
    Everything else is inverted on the grid: with ``A`` the affine map closest to
    ``T``, ``R = A^-1 T`` moves points little, and ``R(z + v) = z`` is solved for ``v`` at each voxel ``z`` by the
    fixed-point iteration ``v <- -r(z + v)``, ``r(x) = R(x) - x`` (Chen et al. 2008, doi:10.1118/1.2816107). Beyond
    the grid, ``r`` goes on as at its border, because ITK's fields and splines end there with a jump.

    Args:
        transform: fixed -> moving points.
        grid: image on the grid of fixed points where an inverse is wanted; by default, the transform's own domain,
            and a grid twice as fine where that is not exact enough.
        tolerance_mm: largest error to accept; by default half of the smallest voxel side.

    Raises:
        GeometryError: the error is larger than the tolerance; the message says where the transform folds.
        OptionError: neither a grid is given nor has the transform a domain; a tolerance that is not
            above 0.
    """
    if tolerance_mm is not None and not tolerance_mm > 0:
        raise OptionError(f"the tolerance of an inverse must be above 0 mm, found {tolerance_mm}")
    if transform.is_linear:
        back = Transform(_inverse_affine(transform.matrix).itk, transform.itk)
        return Inverse(back, *_errors(transform, back, _some_points(grid)))
    own_grid = grid is None
    grid = domain_of(transform) if grid is None else grid
    points = _some_points(grid)
    tolerance = min(grid.GetSpacing()) / 2 if tolerance_mm is None else tolerance_mm
    if transform.known_inverse is not None:
        back = Transform(transform.known_inverse, transform.itk)
        largest, mean = _errors(transform, back, points)
        if largest <= tolerance:
            return Inverse(back, largest, mean)
    back = _numeric(transform, grid)
    largest, mean = _errors(transform, back, points)
    if not largest <= tolerance and own_grid and _finer_helps(transform, grid):
        back = _numeric(transform, _finer(grid))
        largest, mean = _errors(transform, back, points)
    if not largest <= tolerance:
        raise GeometryError(
            f"the transform has no inverse to {tolerance:.3g} mm: it ends up to {largest:.3g} mm away "
            f"(mean {mean:.3g}); {_where_it_folds(transform, grid)}"
        )
    return Inverse(back, largest, mean)


def _finer_helps(transform: Transform, grid: sitk.Image) -> bool:
    """Whether an inverse may only be bent too much within voxels: the transform does not fold, and there is room."""
    if min(grid.GetSize()) < 2 or 8 * grid.GetNumberOfPixels() > MOST_FINE_VOXELS:
        return False
    return not _folds(transform, grid)[0].any()


def _finer(grid: sitk.Image) -> sitk.Image:
    """Grid of half the spacing over the same voxel centres."""
    affine = affine_of(grid)
    affine[:3, :3] /= 2
    return empty_grid(tuple(2 * n - 1 for n in grid.GetSize()), affine)


def domain_of(transform: Transform) -> sitk.Image:
    """Grid on which a deformable transform is defined: that of its first displacement field or B-spline.

    A B-spline's grid has four voxels per control point along each axis. Linear parts that are applied before
    are accounted for, deformable ones are not.

    Returns:
        Empty image.

    Raises:
        OptionError: the transform has no displacement field and no B-spline.
    """
    import SimpleITK as sitk

    before = np.eye(4)
    for part in reversed(parts_of(transform.itk)):
        if part.IsLinear():
            before = Transform(part).matrix @ before
            continue
        if isinstance(part, sitk.DisplacementFieldTransform):
            own = part.GetDisplacementField()
        elif isinstance(part, sitk.BSplineTransform):
            own = _spline_domain(part)
        else:
            break
        return empty_grid(own.GetSize(), np.linalg.inv(before) @ affine_of(own))
    raise OptionError("this transform has no grid; give the grid on which to invert it")


def _spline_domain(spline: sitk.BSplineTransform) -> sitk.Image:
    cell, cells = spline_cells(spline)
    affine = cell.copy()
    affine[:3, :3] /= 4
    # voxels lie inside: on the far border itself ITK's splines move nothing
    affine[:3, 3] += affine[:3, :3].sum(axis=1) / 2
    return empty_grid(tuple((4 * cells).astype(int).tolist()), affine)


def _inverse_affine(matrix: npt.NDArray[np.float64]) -> Transform:
    return Transform.from_matrix(np.asarray(np.linalg.inv(matrix), np.float64))


def _some_points(grid: sitk.Image | None) -> npt.NDArray[np.float64]:
    """Points where errors are measured: each voxel of the grid, every n-th along each axis of large ones."""
    if grid is None:
        grid = empty_grid((5, 5, 5), np.diag([50.0, 50, 50, 1]))
    step = max(1, int(np.ceil((np.prod(grid.GetSize()) / 2e6) ** (1 / 3))))
    return grid_points(grid, step)


def _errors(transform: Transform, back: Transform, points: npt.NDArray[np.float64]) -> tuple[float, float]:
    moved = transform.points(points)
    distances = np.linalg.norm(transform.points(back.points(moved)) - moved, axis=1)
    return float(distances.max()), float(distances.mean())


def _numeric(transform: Transform, grid: sitk.Image) -> Transform:
    points = grid_points(grid)
    matrix = Transform.closest_affine(points, transform.points(points)).matrix
    rest = Transform.compose([transform, _inverse_affine(matrix)])
    affine, shape = affine_of(grid), np.array(grid.GetSize())
    margin = MARGIN + _reach(rest, points, affine)
    wide_affine = affine.copy()
    wide_affine[:3, 3] -= affine[:3, :3] @ margin
    wide = empty_grid(tuple(shape + 2 * margin), wide_affine)
    shifts = _fixed_point(rest, grid_points(wide), affine, shape)
    field = displacement_transform(np.moveaxis(shifts.reshape(*wide.GetSize(), 3), -1, 0), wide_affine)
    back = Transform.compose([_inverse_affine(matrix), field])
    return Transform(back.itk, transform.itk)


def _reach(
    rest: Transform, points: npt.NDArray[np.float64], affine: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Number of voxels that points are moved beyond the grid, along each axis."""
    shifts = (rest.points(points) - points) @ np.linalg.inv(affine[:3, :3]).T
    return np.ceil(np.abs(shifts).max(axis=0)).astype(np.intp)


def _fixed_point(
    rest: Transform,
    targets: npt.NDArray[np.float64],
    affine: npt.NDArray[np.float64],
    shape: npt.NDArray[np.intp],
) -> npt.NDArray[np.float64]:
    """Shifts ``v`` with ``R(z + v) = z`` for targets ``z``, RAS+ mm; what does not settle is left as it is."""
    inverse = np.linalg.inv(affine)
    enough = ENOUGH * np.linalg.norm(affine[:3, :3], axis=0).min()
    shifts = np.zeros_like(targets)
    active = np.arange(len(targets))
    for iteration in range(ITERATIONS):
        indices = (targets[active] + shifts[active]) @ inverse[:3, :3].T + inverse[:3, 3]
        inside = np.clip(indices, 0, shape - 1) @ affine[:3, :3].T + affine[:3, 3]
        change = inside - rest.points(inside) - shifts[active]
        # steep places swing around the solution, where half a step settles
        shifts[active] += change if iteration < ITERATIONS // 4 else change / 2
        active = active[np.linalg.norm(change, axis=1) > enough]
        if not len(active):
            break
    return shifts


def _folds(transform: Transform, grid: sitk.Image) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Voxels where space is turned inside out, and the determinants, positive elsewhere."""
    determinants = jacobian_determinant(transform, grid)
    if np.median(determinants) < 0:  # a reflection
        determinants = -determinants
    return determinants <= 0, determinants


def _where_it_folds(transform: Transform, grid: sitk.Image) -> str:
    if min(grid.GetSize()) < 2:
        return "its grid is a single slice, across which it is not defined"
    folded, determinants = _folds(transform, grid)
    if not folded.any():
        return "it does not fold on the grid, so give a finer grid or a larger tolerance"
    worst = np.array(np.unravel_index(int(determinants.argmin()), determinants.shape))
    affine = affine_of(grid)
    place = ", ".join(f"{v:.1f}" for v in affine[:3, :3] @ worst + affine[:3, 3])
    return (
        f"it folds at {int(folded.sum())} of {folded.size} voxels ({folded.mean():.2%}), most around {place} mm RAS, "
        f"voxel {', '.join(map(str, worst))}; register with a wider grid of control points, or with syn"
    )
