from __future__ import annotations

import numpy as np
import pytest

from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    field_image,
    grid_points,
    sample_displacements,
)
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError

SHAPE = (6, 7, 8)
AFFINE = np.array([[0.6, -0.8, 0, -9], [0.8, 0.6, 0, 4], [0, 0, -2, 5], [0, 0, 0, 1.0]])


def shifts() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, *SHAPE))


def test_points_of_a_grid_are_its_voxels():
    grid = empty_grid(SHAPE, AFFINE)
    points = grid_points(grid).reshape(*SHAPE, 3)
    for index in ((0, 0, 0), (5, 6, 7), (1, 2, 3)):
        assert np.allclose(points[index], AFFINE[:3, :3] @ index + AFFINE[:3, 3])
        assert np.allclose(points[index] * (-1, -1, 1), grid.TransformIndexToPhysicalPoint(index))
    assert np.array_equal(grid_points(grid, 2), points[::2, ::2, ::2].reshape(-1, 3))


def test_a_field_moves_its_voxels_by_its_numbers():
    transform, grid = displacement_transform(shifts(), AFFINE), empty_grid(SHAPE, AFFINE)
    expected = grid_points(grid) + np.moveaxis(shifts(), 0, -1).reshape(-1, 3)
    assert np.abs(transform.points(grid_points(grid)) - expected).max() < 1e-9


def test_there_and_back():
    transform, grid = displacement_transform(shifts(), AFFINE), empty_grid(SHAPE, AFFINE)
    assert np.abs(sample_displacements(transform, grid) - shifts()).max() < 1e-9


def test_any_transform_is_sampled():
    matrix = np.diag([1.1, 0.9, 1.3, 1])
    matrix[:3, 3] = (3, 4, 5)
    transform, grid = Transform.from_matrix(matrix), empty_grid(SHAPE, AFFINE)
    expected = transform.points(grid_points(grid)) - grid_points(grid)
    found = np.moveaxis(sample_displacements(transform, grid), 0, -1).reshape(-1, 3)
    assert np.abs(found - expected).max() < 1e-9
    assert np.allclose(affine_of(field_image(transform, grid)), AFFINE)


def test_numbers_of_half_precision():
    transform = displacement_transform(shifts().astype(np.float16), AFFINE)
    assert np.abs(sample_displacements(transform, empty_grid(SHAPE, AFFINE)) - shifts()).max() < 1e-2


def test_refusals():
    with pytest.raises(GeometryError, match=r"\(3, x, y, z\), found shape \(6, 7, 8, 3\)"):
        displacement_transform(np.zeros((*SHAPE, 3)), AFFINE)
    with pytest.raises(GeometryError, match="NaN or infinite"):
        displacement_transform(np.full((3, *SHAPE), np.inf), AFFINE)
    with pytest.raises(GeometryError, match="not invertible"):
        displacement_transform(shifts(), np.zeros((4, 4)))
