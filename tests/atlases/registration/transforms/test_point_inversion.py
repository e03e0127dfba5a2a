from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    grid_points,
)
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.registration.transforms.inversion import invert
from atlaseg.atlases.registration.transforms.point_inversion import invert_points
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError

SHAPE = (18, 16, 12)
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])


def oblique(scale: float = 1.0) -> sitk.Image:
    affine = np.eye(4)
    affine[:3, :3] = scale * TURN[[2, 0, 1]] @ np.diag((1.0, 1.4, 2.5))
    affine[:3, 3] = scale * np.array((-7, 30, 11))
    return empty_grid(SHAPE, affine)


def field(grid: sitk.Image, size: float = 2.0) -> Transform:
    i, j, k = np.indices(grid.GetSize(), dtype=float)
    shifts = size * np.stack([np.sin(j / 5) + 0.3, np.cos(k / 4 + i / 9), np.sin(i / 6 - 1) - 0.2])
    return displacement_transform(shifts, affine_of(grid))


def spline(grid: sitk.Image, size: float = 2.0) -> Transform:
    itk = sitk.BSplineTransformInitializer(grid, [4, 4, 3], 3)
    itk.SetParameters(np.random.default_rng(2).normal(0, size, len(itk.GetParameters())).tolist())
    return Transform(itk)


def matrix() -> Transform:
    return Transform.from_matrix(
        np.array([[1.1, 0.2, 0, 20], [0, 0.9, 0, -30], [0, 0.1, 1, 40], [0, 0, 0, 1.0]])
    )


def inner(grid: sitk.Image, count: int = 60) -> np.ndarray:
    points = np.random.default_rng(0).uniform(4, np.array(grid.GetSize()) - 5, (count, 3))
    affine = affine_of(grid)
    return points @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize(
    "kind", ["matrix", "field", "spline", "field, matrix", "matrix, field", "spline, field"]
)
def test_points_come_back(kind: str):
    grid = oblique()
    after = empty_grid(SHAPE, matrix().matrix @ affine_of(grid))
    made = {"matrix": matrix(), "field": field(grid), "spline": spline(grid)}
    parts = [made[name] for name in kind.split(", ")]
    if kind == "matrix, field":
        parts[1] = field(after)
    transform = Transform.compose(parts)
    points = inner(grid)
    back = invert_points(transform, transform.points(points))
    assert back.found.all()
    assert back.unique.all()
    assert np.abs(back.points - points).max() < 0.01
    assert back.error_mm.max() < 0.005
    assert np.allclose(
        back.error_mm, np.linalg.norm(transform.points(back.points) - transform.points(points), axis=1)
    )


def test_the_unit_of_length_does_not_matter():
    """A mouse of 0.02 mm voxels."""
    grid = oblique(0.02)
    transform, points = field(grid, 0.04), inner(grid)
    back = invert_points(transform, transform.points(points))
    assert back.found.all()
    assert np.abs(back.points - points).max() < 2e-4


def test_nothing_is_asked_of_other_places():
    """The transform folds in one corner; the inverse of the whole is refused, that of points elsewhere is not."""
    grid = empty_grid((24, 24, 24), np.diag([2.0, 2, 2, 1]))
    shifts = np.zeros((3, 24, 24, 24))
    shifts[0] = np.sin(np.arange(24) / 3)[:, None]
    shifts[0, 3:7, 4, 4] += (6, 2, -2, -6)
    transform = displacement_transform(shifts, affine_of(grid))
    with pytest.raises(GeometryError, match="folds"):
        invert(transform, grid)
    points = np.random.default_rng(1).uniform(24, 40, (30, 3))
    back = invert_points(transform, transform.points(points))
    assert back.found.all()
    assert back.unique.all()
    assert np.abs(back.points - points).max() < 0.01


def test_points_in_a_fold_are_reported():
    grid = empty_grid((40, 12, 12), np.eye(4))
    x = np.arange(40.0)
    shifts = np.zeros((3, 40, 12, 12))
    shifts[0] = (8 * np.sin(x / 5) * ((x > 5) & (x < 35)))[:, None, None]
    transform = displacement_transform(shifts, affine_of(grid))
    # by brute force along the line: how many places are carried to each target
    line = np.linspace(6, 34, 20001)
    moved = transform.points(np.column_stack([line, np.full_like(line, 6), np.full_like(line, 6)]))[:, 0]
    targets = np.arange(14, 28.0)
    crossings = [int((np.diff(np.sign(moved - t)) != 0).sum()) for t in targets]
    back = invert_points(transform, np.column_stack([targets, np.full(14, 6.0), np.full(14, 6.0)]))
    assert back.found.all()
    assert {1, 3} <= set(crossings)
    assert back.unique.tolist() == [n == 1 for n in crossings]


def test_places_that_nothing_is_carried_to():
    """A shift by 5 mm: what lies within 5 mm of the border comes from outside, where nothing moves."""
    grid = empty_grid((20, 20, 20), np.eye(4))
    shifts = np.zeros((3, 20, 20, 20))
    shifts[0] = 5
    transform = displacement_transform(shifts, affine_of(grid))
    back = invert_points(transform, np.array([[2.0, 10, 10], [12, 10, 10], [-30, 10, 10], [22, 10, 10]]))
    assert back.found.tolist() == [False, True, True, True]
    # outside, ITK's fields move nothing; but 17, 10, 10 is carried to the last one
    assert np.allclose(back.points[1:], [[7, 10, 10], [-30, 10, 10], [17, 10, 10]], atol=1e-3)
    assert back.error_mm[0] > 1


def test_large_warps_are_found_from_elsewhere():
    grid = empty_grid((40, 40, 40), np.eye(4))
    i, j, k = np.indices((40, 40, 40), dtype=float)
    # a swirl: far from the identity, and it does not fold
    turn = 2.5 * np.exp(-((i - 20) ** 2 + (j - 20) ** 2) / 120)
    x, y = i - 20, j - 20
    shifts = np.stack(
        [np.cos(turn) * x - np.sin(turn) * y - x, np.sin(turn) * x + np.cos(turn) * y - y, 0 * k]
    )
    transform = displacement_transform(shifts, affine_of(grid))
    points = np.random.default_rng(3).uniform(8, 31, (100, 3))
    back = invert_points(transform, transform.points(points))
    assert back.found.all()
    assert np.abs(back.points - points).max() < 0.05


def test_matrices_without_inverse():
    flat = Transform(sitk.ScaleTransform(3, (1, 0, 1)))
    with pytest.raises(GeometryError, match="into a plane"):
        invert_points(flat, np.zeros((1, 3)))


def test_fields_of_one_slice():
    grid = empty_grid((20, 20, 1), np.eye(4))
    shifts = np.zeros((3, 20, 20, 1))
    shifts[0] = 2
    transform = displacement_transform(shifts, affine_of(grid))
    back = invert_points(transform, np.array([[10.0, 10, 0]]))
    assert back.found.all()
    assert np.allclose(back.points, [[8, 10, 0]])


def test_many_points():
    grid = oblique()
    points = grid_points(grid)[::7]
    transform = field(grid, 0.5)
    back = invert_points(transform, transform.points(points))
    assert back.found.mean() > 0.95
    assert np.abs(back.points - points)[back.found & (back.error_mm < 1e-3)].max() < 2
