from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    grid_points,
)
from atlaseg.atlases.registration.transforms.frames import affine_of, from_itk, to_itk
from atlaseg.atlases.registration.transforms.resampling import (
    resample_image,
    resample_labels,
    resample_memberships,
    seen,
)
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError, LabelError, OptionError

MOVING = np.array([[1.1, 0, 0, 0], [0, -0.9, 0, 9], [0, 0, 2, 1], [0, 0, 0, 1.0]])
FIXED = np.array([[0.9, 0.3, 0, -1.37], [-0.3, 0.9, 0, 1.21], [0, 0, 2.1, 0.31], [0, 0, 0, 1.0]])
SHAPE, FIXED_SHAPE = (12, 11, 10), (14, 13, 9)
VALUES = {
    np.uint8: (0, 3, 7, 255),
    np.uint16: (0, 3, 1000, 65535),
    np.int16: (-300, 0, 5, 4000),
    np.int32: (-7, 0, 5, 2**31 - 1),
    np.uint32: (0, 9, 70000, 2**32 - 1),
}


def grid() -> sitk.Image:
    return empty_grid(FIXED_SHAPE, FIXED)


def labels(dtype: type = np.uint16) -> sitk.Image:
    """Blocks of labels, so that boundaries exist and each label has an inside."""
    blocks = np.random.default_rng(0).choice(VALUES[dtype], size=(4, 4, 4)).astype(dtype)
    voxels = blocks.repeat(3, 0).repeat(3, 1).repeat(3, 2)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return to_itk(voxels, MOVING)


def warp() -> Transform:
    shifts = np.random.default_rng(2).normal(0, 0.7, (3, *FIXED_SHAPE))
    shear = np.array([[1, 0.1, 0, 0.33], [0, 1, 0.05, 0.21], [0, 0, 1, 0.13], [0, 0, 0, 1.0]])
    return Transform.compose([displacement_transform(shifts, FIXED), Transform.from_matrix(shear)])


def moving_indices(transform: Transform) -> np.ndarray:
    """Where the fixed voxels lie in the moving image, in voxels: computed without resampling anything."""
    inverse = np.linalg.inv(MOVING)
    points = transform.points(grid_points(grid()))
    return (points @ inverse[:3, :3].T + inverse[:3, 3]).reshape(*FIXED_SHAPE, 3)


def test_linear_agrees_with_scipy():
    from scipy.ndimage import map_coordinates

    voxels = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    indices = moving_indices(warp())
    inner = ((indices >= 0) & (indices <= np.array(SHAPE) - 1)).all(axis=-1)
    expected = map_coordinates(voxels, np.moveaxis(indices, -1, 0), order=1)
    found, affine = from_itk(resample_image(to_itk(voxels, MOVING), grid(), warp()))
    assert found.dtype == np.float32
    assert np.allclose(affine, FIXED)
    assert np.abs(found - expected)[inner].max() < 1e-4
    assert inner.mean() > 0.2


@pytest.mark.parametrize("interpolation", ["linear", "bspline", "sinc", "nearest"])
def test_a_smooth_image_moves_with_its_grid(interpolation: str):
    def wave(points: np.ndarray) -> np.ndarray:
        return np.sin(points[..., 0] / 3) + np.cos(points[..., 1] / 4) + np.sin(points[..., 2] / 9)

    big = (30, 30, 20)
    image = to_itk(wave(grid_points(empty_grid(big, MOVING))).reshape(big).astype(np.float32), MOVING)
    found = from_itk(resample_image(image, grid(), warp(), interpolation, outside=99))[0]
    expected = wave(warp().points(grid_points(grid()))).reshape(FIXED_SHAPE)
    indices = moving_indices(warp())
    inner = ((indices >= 5) & (indices <= np.array(big) - 6)).all(axis=-1)
    limit = {"linear": 0.03, "bspline": 2e-3, "sinc": 0.02, "nearest": 0.5}[interpolation]
    assert np.abs(found - expected)[inner].max() < limit
    outside = ((indices < -0.51) | (indices > np.array(big) - 0.49)).any(axis=-1)
    assert outside.any()
    assert (found[outside] == 99).all()


@pytest.mark.parametrize("interpolation", ["nearest", "gaussian"])
@pytest.mark.parametrize("dtype", VALUES)
def test_labels_keep_their_values(dtype: type, interpolation: str):
    found = from_itk(resample_labels(labels(dtype), grid(), warp(), interpolation))[0]
    assert found.dtype == dtype
    assert set(np.unique(found)) == set(VALUES[dtype])


def test_nearest_takes_the_nearest_voxel():
    indices = moving_indices(warp())
    inside = ((indices >= -0.5) & (indices < np.array(SHAPE) - 0.5)).all(axis=-1)
    nearest = np.clip(np.rint(indices).astype(int), 0, np.array(SHAPE) - 1)
    expected = np.where(inside, from_itk(labels())[0][tuple(np.moveaxis(nearest, -1, 0))], 0)
    assert np.array_equal(from_itk(resample_labels(labels(), grid(), warp()))[0], expected)


def test_gaussian_labels_of_a_ball_are_rounder_than_nearest_ones():
    i, j, k = np.indices((20, 20, 20)) - 9.5
    ball = to_itk((i**2 + j**2 + k**2 < 49).astype(np.uint8) * 200, np.eye(4))
    fine = empty_grid((57, 57, 57), np.diag([1 / 3, 1 / 3, 1 / 3, 1]))
    i, j, k = np.indices((57, 57, 57)) / 3 - 9.5
    truth = i**2 + j**2 + k**2 < 49
    wrong = {
        kind: ((from_itk(resample_labels(ball, fine, Transform.identity(), kind))[0] == 200) != truth).mean()
        for kind in ("nearest", "gaussian")
    }
    assert wrong["gaussian"] < 0.7 * wrong["nearest"]


def test_edge_voxels_are_seen_to_half_a_voxel():
    moving = empty_grid((4, 4, 4), np.eye(4))
    line = np.diag([0.25, 1, 1, 1])
    line[:3, 3] = (-1, 1, 1)
    found = from_itk(seen(moving, empty_grid((25, 1, 1), line), Transform.identity()))[0].ravel()
    places = -1 + 0.25 * np.arange(25)
    assert np.array_equal(found.astype(bool), (places >= -0.5) & (places < 3.5))


def test_seen_is_where_an_image_of_ones_gives_ones():
    ones = to_itk(np.ones(SHAPE, np.float32), MOVING)
    found = from_itk(seen(ones, grid(), warp()))[0]
    assert 0.2 < found.mean() < 0.9
    assert np.array_equal(found, from_itk(resample_image(ones, grid(), warp()))[0].round())


def test_memberships_are_interpolated_indicators():
    found = resample_memberships(labels(), grid(), warp())
    assert found.shape == (4, *FIXED_SHAPE)
    for channel, value in enumerate(VALUES[np.uint16]):
        expected = from_itk(resample_image(labels() == value, grid(), warp()))[0]
        assert np.abs(found[channel] - expected).max() < 1e-5
    assert np.abs(found.sum(axis=0) - from_itk(seen(labels(), grid(), warp()))[0]).max() < 1e-5


def test_memberships_of_chosen_labels_are_added_up():
    everything = resample_memberships(labels(), grid(), warp())
    votes = np.ones((2, *FIXED_SHAPE), np.float32)
    assert resample_memberships(labels(), grid(), warp(), values=(65535, 42), out=votes) is votes
    assert np.allclose(votes[0], 1 + everything[3])
    assert (votes[1] == 1).all()


def test_memberships_of_a_single_slice():
    slice_ = to_itk(np.full((3, 3, 1), 5, np.int16), np.eye(4))
    found = resample_memberships(slice_, empty_grid((3, 3, 2), np.diag([1, 1, 0.4, 1])), Transform.identity())
    assert np.array_equal(found, np.ones((1, 3, 3, 2)))


def test_refusals():
    image = to_itk(np.zeros(SHAPE, np.float32), MOVING)
    with pytest.raises(
        OptionError, match="no interpolation 'cubic' for images; choose one of linear, bspline"
    ):
        resample_image(image, grid(), warp(), "cubic")
    with pytest.raises(OptionError, match="no interpolation 'linear' for label maps"):
        resample_labels(labels(), grid(), warp(), "linear")
    for function in (resample_labels, resample_memberships):
        with pytest.raises(LabelError, match="one integer per voxel, found 32-bit float"):
            function(image, grid(), warp())
    with pytest.raises(LabelError, match="asked for once"):
        resample_memberships(labels(), grid(), warp(), values=(3, 3))
    with pytest.raises(GeometryError, match="out must be float32"):
        resample_memberships(labels(), grid(), warp(), out=np.zeros((4, 2, 2, 2), np.float32))


def test_the_moving_image_is_not_changed():
    image = labels()
    before = from_itk(image)[0]
    resample_memberships(image, grid(), warp())
    resample_image(image, grid(), warp())
    assert np.array_equal(from_itk(image)[0], before)
    assert np.allclose(affine_of(image), MOVING)
