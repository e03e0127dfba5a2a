from __future__ import annotations

import numpy as np
import pytest

from atlaseg.atlases.registration.transforms.displacement import empty_grid, grid_points
from atlaseg.atlases.registration.transforms.thin_plate_spline import thin_plate_spline
from atlaseg.pipeline.errors import GeometryError, OptionError

SHAPE = (24, 20, 14)
GRID = np.array([[0.9, -0.5, 0, -9], [0.5, 0.9, 0, 4], [0, 0, 1.7, 5], [0, 0, 0, 1.0]])


def landmarks(count: int = 12) -> np.ndarray:
    """Landmarks on voxels, where the sampled spline is exact."""
    indices = np.random.default_rng(0).permutation(np.prod(SHAPE))[:count]
    return grid_points(empty_grid(SHAPE, GRID))[indices]


def moved(count: int = 12) -> np.ndarray:
    return landmarks(count) * (1.1, 0.9, 1) + (5, 6, 7) + np.random.default_rng(1).normal(0, 1.5, (count, 3))


def bookstein(
    fixed: np.ndarray, target: np.ndarray, points: np.ndarray, stiffness: float = 0.0
) -> np.ndarray:
    """The textbook's system of equations, solved as it stands there."""
    n = len(fixed)
    kernel = np.linalg.norm(fixed[:, None] - fixed[None], axis=-1) - stiffness * np.eye(n)
    ones = np.column_stack([np.ones(n), fixed])
    system = np.block([[kernel, ones], [ones.T, np.zeros((4, 4))]])
    weights = np.linalg.solve(system, np.vstack([target, np.zeros((4, 3))]))
    distances = np.linalg.norm(points[:, None] - fixed[None], axis=-1)
    return distances @ weights[:n] + np.column_stack([np.ones(len(points)), points]) @ weights[n:]


@pytest.mark.parametrize("stiffness", [0.0, 5.0])
def test_the_textbook_spline_on_every_voxel(stiffness: float):
    grid = empty_grid(SHAPE, GRID)
    transform = thin_plate_spline(landmarks(), moved(), grid, stiffness)
    expected = bookstein(landmarks(), moved(), grid_points(grid), stiffness)
    assert np.abs(transform.points(grid_points(grid)) - expected).max() < 1e-8
    # a little beyond the grid, between voxels, it is the same but for interpolation
    beyond = grid_points(grid)[:200] - 0.8
    assert np.abs(transform.points(beyond) - bookstein(landmarks(), moved(), beyond, stiffness)).max() < 0.2


def test_landmarks_meet_and_stiffness_lets_go():
    grid = empty_grid(SHAPE, GRID)
    residuals = [
        np.abs(thin_plate_spline(landmarks(), moved(), grid, s).points(landmarks()) - moved()).max()
        for s in (0.0, 5.0, 1e6)
    ]
    assert residuals[0] < 1e-8 < residuals[1] < residuals[2]


def test_affine_landmarks_make_an_affine_map_everywhere():
    target = landmarks() @ np.array([[1.1, 0.2, 0], [0, 0.9, 0], [0.1, 0, 1]]) + (50, 6, 7)
    far = landmarks() * 9
    found = thin_plate_spline(landmarks(), target, empty_grid(SHAPE, GRID)).points(far)
    assert (
        np.abs(found - (far @ np.array([[1.1, 0.2, 0], [0, 0.9, 0], [0.1, 0, 1]]) + (50, 6, 7))).max() < 1e-6
    )


@pytest.mark.parametrize(
    ("fixed", "moving", "error", "message"),
    [
        (landmarks(3), moved(3), GeometryError, "at least 4 fixed landmarks, found 3"),
        (landmarks(5), moved(6), OptionError, "5 fixed and 6 moving"),
        (landmarks(6) * (1, 1, 0), moved(6), GeometryError, "fixed landmarks lie in a plane"),
        (landmarks(6), moved(6) * (0, 1, 1), GeometryError, "moving landmarks lie in a plane"),
        (landmarks(6)[[0, 1, 2, 3, 4, 4]], moved(6), GeometryError, "occurs twice"),
        (landmarks(6) * np.nan, moved(6), GeometryError, "NaN or infinite"),
    ],
)
def test_landmarks_that_make_no_spline(fixed, moving, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        thin_plate_spline(fixed, moving, empty_grid(SHAPE, GRID))


def test_negative_stiffness():
    with pytest.raises(OptionError, match="0 or more, found -1"):
        thin_plate_spline(landmarks(), moved(), empty_grid(SHAPE, GRID), -1)
