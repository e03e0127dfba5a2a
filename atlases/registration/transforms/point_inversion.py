"""Inverse of a transform at points: where in the fixed image is what lies at given places of the moving image?

Unlike :func:`atlaseg.atlases.registration.transforms.inversion.invert`, nothing is asked of the transform anywhere
else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.domains import Domain, domain_of_part
from atlaseg.atlases.registration.transforms.transform import Transform, parts_of
from atlaseg.pipeline.errors import GeometryError

__all__ = ["PointInverse", "invert_points"]

Points = npt.NDArray[np.float64]

ITERATIONS = 40
#: A point is found where the transform carries it this close to its target, in voxels (cells of a B-spline).
ENOUGH = 1e-3
#: Step of numerical derivatives, in voxels.
STEP = 1e-3
#: Places of the domain from which points are sought that were not found from their targets.
NEAREST_NODES = 8


class PointInverse(NamedTuple):
    """Points that a transform carries to given targets.

    Args:
        points: ``(n, 3)``, RAS+ mm; where none was found, the one that comes closest.
        error_mm: ``(n,)`` distance between what the transform makes of each point, and its target.
        found: ``(n,)`` whether the point exists.
        unique: ``(n,)`` whether no other point was seen that is carried to the same place: a transform that folds
            carries three points to one.
    """

    points: Points
    error_mm: npt.NDArray[np.float64]
    found: npt.NDArray[np.bool_]
    unique: npt.NDArray[np.bool_]


def invert_points(transform: Transform, targets: Points) -> PointInverse:
    """Points ``x`` with ``T(x) = y`` for targets ``y``, part by part of a composite.

    Matrices are inverted exactly. For displacement fields and B-splines, ``x`` is sought by Newton's method with a
    line search from ``y``, and where that fails or other places are carried near ``y``, from those.

    Args:
        transform: fixed -> moving points.
        targets: ``(n, 3)`` of the moving image, RAS+ mm.

    Raises:
        GeometryError: a matrix has no inverse.
    """
    points = np.atleast_2d(np.asarray(targets, np.float64))
    found, unique = np.ones(len(points), bool), np.ones(len(points), bool)
    # the last of ITK's list is applied first, so the first is taken back first
    for part in parts_of(transform.itk):
        one = Transform(part)
        if one.is_linear:
            try:
                matrix = np.linalg.inv(one.matrix)
            except np.linalg.LinAlgError as error:
                raise GeometryError(
                    "the transform carries space into a plane, so it has no inverse"
                ) from error
            points = points @ matrix[:3, :3].T + matrix[:3, 3]
            continue
        solution = _solve(one, points, domain_of_part(part))
        points = solution.points
        found &= solution.found
        unique &= solution.unique
    errors = np.linalg.norm(transform.points(points) - np.atleast_2d(targets), axis=1)
    return PointInverse(points, errors, found, unique)


class _Solution(NamedTuple):
    points: Points
    found: npt.NDArray[np.bool_]
    unique: npt.NDArray[np.bool_]


def _solve(part: Transform, targets: Points, domain: Domain | None) -> _Solution:
    """Points that one deformable part carries to targets."""
    voxel = 1.0 if domain is None else domain.voxel
    points = _newton(part, targets, targets, domain, voxel)
    found = _misses(part, points, targets) <= ENOUGH * voxel
    unique = np.ones(len(targets), bool)
    if domain is None:
        return _Solution(points, found, unique)
    _look_elsewhere(part, targets, domain, points, found, unique)
    # outside its domain a field moves nothing, so a place there that nothing is carried to is its own
    lost = np.flatnonzero(~found)
    stays = lost[_misses(part, targets[lost], targets[lost]) == 0]
    points[stays], found[stays] = targets[stays], True
    return _Solution(points, found, unique)


def _look_elsewhere(
    part: Transform,
    targets: Points,
    domain: Domain,
    points: Points,
    found: npt.NDArray[np.bool_],
    unique: npt.NDArray[np.bool_],
) -> None:
    """Seek points from other places of the domain that are carried near their targets; changes the last three."""
    from scipy.spatial import KDTree

    nodes, apart = domain.nodes()
    count = min(NEAREST_NODES, len(nodes))
    moved = part.points(nodes)
    nearest = KDTree(moved).query(targets, k=count)[1].reshape(len(targets), count)
    starts = nodes[nearest]
    far = np.linalg.norm(starts - points[:, None], axis=2)
    # from the farthest first: where space folds, that is another solution
    order = np.argsort(-far, axis=1)
    for rank in range(count):
        chosen = np.take_along_axis(order, np.full((len(targets), 1), rank), 1)[:, 0]
        distance = np.take_along_axis(far, chosen[:, None], 1)[:, 0]
        # the corners of the cell around a point are closer than its diagonal
        wanted = np.flatnonzero(~found | (unique & (distance > np.sqrt(3) * apart)))
        if not len(wanted):
            break
        start = starts[wanted, chosen[wanted]]
        others = _newton(part, targets[wanted], start, domain, domain.voxel)
        arrived = _misses(part, others, targets[wanted]) <= ENOUGH * domain.voxel
        again = arrived & found[wanted]
        apart_from = np.linalg.norm(others - points[wanted], axis=1)
        unique[wanted[again & (apart_from > 0.1 * domain.voxel)]] = False
        new = wanted[arrived & ~found[wanted]]
        points[new] = others[arrived & ~found[wanted]]
        found[new] = True
    # where space is turned inside out, as against the whole, a point is the middle one of three
    design = np.column_stack([nodes, np.ones(len(nodes))])
    whole = np.linalg.det(np.linalg.lstsq(design, moved, rcond=None)[0][:3])
    unique &= (np.linalg.det(_slopes(part.points, points, STEP * domain.voxel)) * np.sign(whole) > 0) | ~found


def _misses(part: Transform, points: Points, targets: Points) -> npt.NDArray[np.float64]:
    if not len(points):
        return np.empty(0)
    return np.asarray(np.linalg.norm(part.points(points) - targets, axis=1))


def _slopes(carried: Callable[[Points], Points], points: Points, step: float) -> Points:
    """Derivatives ``(n, 3, 3)`` of a map at points."""
    there = carried(points)
    return np.stack([(carried(points + step * axis) - there) / step for axis in np.eye(3)], axis=-1)


def _newton(part: Transform, targets: Points, start: Points, domain: Domain | None, voxel: float) -> Points:
    """Newton's method with a line search, on the transform continued beyond its domain as at the border."""

    def carried(points: Points) -> Points:
        if domain is None:
            return part.points(points)
        inside = domain.clipped(points)
        return points + part.points(inside) - inside

    points = start.copy()
    rest = carried(points) - targets
    active = np.arange(len(points))
    for _ in range(ITERATIONS):
        active = active[np.linalg.norm(rest[active], axis=1) > ENOUGH**2 * voxel]
        if not len(active):
            break
        here, missing = points[active], rest[active]
        step = STEP * voxel
        slopes = np.stack(
            [(carried(here + step * axis) - (missing + targets[active])) / step for axis in np.eye(3)],
            axis=-1,
        )
        moves = -np.einsum("nij,nj->ni", np.linalg.pinv(slopes), missing)
        share = np.ones((len(active), 1))
        before = np.linalg.norm(missing, axis=1)
        better = np.zeros(len(active), bool)
        for _ in range(6):
            tried = here + share * moves
            left = carried(tried) - targets[active]
            improved = (np.linalg.norm(left, axis=1) < before) & ~better
            points[active[improved]], rest[active[improved]] = tried[improved], left[improved]
            better |= improved
            if better.all():
                break
            share[~better] /= 2
        active = active[better]
    return points
