"""Mean shapes: known answers, and that removing the mean leaves none."""

from __future__ import annotations

import numpy as np
import pytest

from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    grid_points,
)
from atlaseg.atlases.registration.transforms.inversion import invert
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.templates.mean_shape import closest_rotation, mean_shape, mean_stretch
from atlaseg.pipeline.errors import GeometryError, OptionError

GRID = empty_grid((16, 18, 14), np.diag([1.0, 1, 1, 1]))


def rotation(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def test_stretches_have_their_geometric_mean() -> None:
    mean = mean_stretch([np.diag([2.0, 1, 1]), np.diag([8.0, 1, 1]), np.diag([0.5, 1, 1])])
    assert np.allclose(mean, np.diag([2.0, 1, 1]))


def test_the_pose_of_a_scan_does_not_count() -> None:
    plain = np.diag([1.2, 0.9, 1.0, 1])
    turned = rotation(170) @ plain
    turned[:3, 3] = (30, -40, 5)
    found = mean_shape([Transform.from_matrix(m) for m in (plain, turned)], GRID)
    assert np.allclose(found.transform.matrix[:3, :3], plain[:3, :3])
    assert found.displacement_mm == 0


def test_mirrored_scans_are_refused() -> None:
    with pytest.raises(GeometryError, match="mirrored"):
        mean_shape([Transform.from_matrix(np.diag([-1.0, 1, 1, 1]))], GRID)


def test_no_mean_of_nothing() -> None:
    with pytest.raises(OptionError, match="at least one"):
        mean_stretch([])


def bump(amplitude: float, width: float = 3.0) -> Transform:
    points = grid_points(GRID).reshape(*GRID.GetSize(), 3)
    height = amplitude * np.exp(-((points - (8, 9, 7)) ** 2).sum(axis=-1) / (2 * width**2))
    return displacement_transform(np.stack([height, -height / 2, 0 * height]), np.eye(4))


def test_opposite_deformations_cancel() -> None:
    found = mean_shape([bump(1.0), bump(-1.0)], GRID)
    assert found.displacement_mm < 0.02
    assert found.affine_mm < 0.01


def test_the_mean_removed_leaves_no_mean() -> None:
    members = [
        Transform.compose([bump(amplitude), Transform.from_matrix(rotation(degrees) @ np.diag([*scale, 1]))])
        for amplitude, degrees, scale in (
            (1.5, 20, (1.1, 1, 1)),
            (0.5, -70, (1.2, 1.05, 0.9)),
            (0, 3, (1, 1, 1)),
        )
    ]
    first = mean_shape(members, GRID)
    back = invert(first.transform, GRID).transform
    second = mean_shape([Transform.compose([back, member]) for member in members], GRID)
    assert first.displacement_mm > 0.05
    assert first.affine_mm > 0.3
    assert second.displacement_mm < 0.15 * first.displacement_mm
    assert second.affine_mm < 0.05 * first.affine_mm


def test_closest_rotation_keeps_the_centre() -> None:
    affine = rotation(40) @ np.diag([1.3, 0.8, 1, 1])
    affine[:3, 3] = (4, 5, 6)
    centre = np.array([7.0, 8, 9])
    rigid = closest_rotation(affine, centre)
    assert np.allclose(rigid[:3, :3] @ rigid[:3, :3].T, np.eye(3))
    assert np.allclose(rigid[:3, :3], rotation(40)[:3, :3])
    assert np.allclose(rigid @ [*centre, 1], affine @ [*centre, 1])
