from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms import jacobian
from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    field_image,
    grid_points,
)
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.registration.transforms.jacobian import jacobian_determinant, jacobian_statistics
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError

SHAPE = (14, 12, 11)


def oblique(sign: float = 1.0) -> np.ndarray:
    c, s = np.cos(0.5), np.sin(0.5)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, sign]]) @ np.diag((0.7, 1.3, 2.0))
    affine[:3, 3] = (3, -4, 5)
    return affine


def quadratic(points: np.ndarray) -> np.ndarray:
    """A map whose central differences are exact: quadratic along each axis of space, and its determinant below."""
    x, y, z = points.T
    return np.stack([x + 0.002 * y**2, y + 0.001 * z**2 + 0.1 * x, z + 0.003 * x**2], axis=-1)


def quadratic_determinant(points: np.ndarray) -> np.ndarray:
    x, y, z = points.T
    rows = [
        [np.ones_like(x), 0.004 * y, 0 * x],
        [0.1 + 0 * x, np.ones_like(x), 0.002 * z],
        [0.006 * x, 0 * x, np.ones_like(x)],
    ]
    return np.linalg.det(np.moveaxis(np.array(rows), -1, 0))


@pytest.mark.parametrize("slab", [1, 500, 10**6])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_known_map_on_an_oblique_grid(monkeypatch: pytest.MonkeyPatch, sign: float, slab: int):
    monkeypatch.setattr(jacobian, "SLAB_VOXELS", slab)
    grid = empty_grid(SHAPE, oblique(sign))
    points = grid_points(grid)
    shifts = np.moveaxis((quadratic(points) - points).reshape(*SHAPE, 3), -1, 0)
    found = jacobian_determinant(displacement_transform(shifts, oblique(sign)), grid)
    assert np.abs(found - quadratic_determinant(points).reshape(SHAPE)).max() < 1e-5


def test_an_affine_map_sampled_as_a_field_has_its_own_determinant():
    grid = empty_grid(SHAPE, oblique())
    matrix = np.eye(4)
    matrix[:3, :3] = [[1.2, 0.3, 0], [0, 0.8, 0.1], [0, 0, 1.1]]
    linear = Transform.from_matrix(matrix)
    field = Transform(sitk.DisplacementFieldTransform(field_image(linear, grid)))
    for transform in (linear, field):
        assert np.abs(jacobian_determinant(transform, grid) - np.linalg.det(matrix)).max() < 1e-5
    # the reason for doing it here
    theirs = sitk.DisplacementFieldJacobianDeterminant(field_image(linear, grid))
    assert abs(theirs[6, 6, 6] - np.linalg.det(matrix)) > 0.05


def test_simpleitk_agrees_where_voxels_and_space_have_the_same_axes():
    # LPS, so that ITK's directions are the identity
    affine = np.diag([-0.7, -1.3, 2.0, 1])
    shifts = np.random.default_rng(0).normal(size=(3, *SHAPE))
    transform, grid = displacement_transform(shifts, affine), empty_grid(SHAPE, affine)
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field_image(transform, grid))).T
    inner = (slice(1, -1),) * 3
    assert np.abs(jacobian_determinant(transform, grid) - theirs)[inner].max() < 1e-3


def test_statistics_of_a_fold_and_of_a_mask():
    grid = empty_grid(SHAPE, np.eye(4))
    shifts = np.zeros((3, *SHAPE))
    # the middle of the volume is mirrored along x
    shifts[0, 5:9] = np.array([3.0, 1, -1, -3])[:, None, None]
    transform = displacement_transform(shifts, np.eye(4))
    determinants = jacobian_determinant(transform, grid)
    statistics = jacobian_statistics(transform, grid)
    assert statistics.folding_fraction == pytest.approx((determinants <= 0).mean())
    assert statistics.folding_fraction > 0.1
    assert statistics.minimum == determinants.min() < -0.9
    mask = np.zeros(SHAPE, bool)
    mask[:3] = True
    still = jacobian_statistics(transform, grid, mask)
    assert (still.folding_fraction, still.log_mean, still.log_sd, still.maximum) == (0, 0, 0, 1)


def test_scaling_shows_in_the_mean_of_the_logarithm():
    grid = empty_grid(SHAPE, oblique())
    statistics = jacobian_statistics(Transform.from_matrix(np.diag([1.1, 1.1, 1.1, 1])), grid)
    assert statistics.log_mean == pytest.approx(3 * np.log(1.1), abs=1e-6)
    assert statistics.log_sd == pytest.approx(0, abs=1e-12)


def test_thin_grids_and_wrong_masks():
    field = displacement_transform(np.zeros((3, 4, 4, 2)), np.eye(4))
    assert (jacobian_determinant(field, empty_grid((4, 4, 2), np.eye(4))) == 1).all()
    with pytest.raises(GeometryError, match="at least 2 voxels"):
        jacobian_determinant(field, empty_grid((4, 4, 1), np.eye(4)))
    grid = empty_grid((4, 4, 4), affine_of(empty_grid((4, 4, 4), np.eye(4))))
    for mask in (np.zeros((4, 4, 4), bool), np.ones((4, 4, 3), bool)):
        with pytest.raises(GeometryError, match="the mask must have voxels"):
            jacobian_statistics(field, grid, mask)


def test_statistics_of_a_single_slice_are_those_of_its_place_in_a_volume() -> None:
    matrix = np.diag([1.1, 0.9, 1.3, 1])
    found = jacobian_statistics(Transform.from_matrix(matrix), empty_grid((5, 6, 1), np.eye(4)))
    assert found.log_mean == pytest.approx(np.log(1.1 * 0.9 * 1.3), abs=1e-6)
    assert found.folding_fraction == 0
