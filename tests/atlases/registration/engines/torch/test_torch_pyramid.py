"""Levels: the same place in mm, smoothed as asked, weighed by both masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from atlaseg.atlases.registration.engine import Problem
from atlaseg.atlases.registration.engines.torch.torch_pyramid import Level, Volume, levels, mapped
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import affine_of, to_itk
from atlaseg.atlases.registration.transforms.transform import Transform

CPU = torch.device("cpu")
SHAPE = (20, 24, 9)
#: Turned, of unlike spacing (0.7, 0.9 and 3 mm), away from the origin.
AFFINE = np.array([[0.0, 0.9, 0, 30], [-0.7, 0, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


def volume(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=SHAPE).astype(np.float32)


def stage(shrink: tuple[int, ...], smoothing_mm: tuple[float, ...]) -> Stage:
    return Stage("rigid", "ncc", None, shrink, smoothing_mm, (7,) * len(shrink), None, 0)


def levels_of(given: Stage, **masks: np.ndarray) -> list[Level]:
    images = to_itk(volume(0), AFFINE), to_itk(volume(1), AFFINE)
    put = {name: to_itk(mask.astype(np.uint8), AFFINE) for name, mask in masks.items()}
    return list(levels(Problem(*images, Transform.identity(), **put), given, CPU))


def test_the_finest_level_is_the_image_itself() -> None:
    (level,) = levels_of(stage((1,), (0.0,)))
    np.testing.assert_array_equal(level.fixed.numpy(), volume(0))
    np.testing.assert_array_equal(level.moving.numpy(), volume(1))
    assert level.fixed_mask is None
    assert level.moving_mask is None
    assert level.iterations == 7


def test_a_coarse_level_is_smoothed_in_mm_and_leaves_thick_slices_alone() -> None:
    coarse, fine = levels_of(stage((2, 1), (0.7, 0.0)))
    assert coarse.lattice.shape == (10, 12, 9)
    assert fine.lattice.shape == SHAPE
    # the moving image stays on its own grid, but as smooth as the fixed one
    wanted = ndimage.gaussian_filter(volume(1), [0.7 / s for s in (0.7, 0.9, 3.0)], radius=(3, 3, 1))
    inner = (slice(3, -3), slice(3, -3), slice(1, -1))
    np.testing.assert_allclose(coarse.moving.numpy()[inner], wanted[inner], atol=1e-5)
    assert coarse.moving.shape == SHAPE


def test_volumes_know_their_spacing() -> None:
    assert Volume.of(to_itk(volume(0), AFFINE), None, CPU).spacing == pytest.approx((0.7, 0.9, 3.0))


def test_points_are_mapped_as_by_itk() -> None:
    image = to_itk(volume(0), AFFINE)
    index = torch.tensor([3.0, 5.0, 7.0])[:, None, None, None]
    x, y, z = mapped(AFFINE, index).flatten().tolist()
    assert image.TransformIndexToPhysicalPoint((3, 5, 7)) == pytest.approx((-x, -y, z), abs=1e-5)
    np.testing.assert_allclose(affine_of(image), AFFINE, atol=1e-12)


def test_masks_weigh_together() -> None:
    fixed_mask, moving_mask = volume(2) > 0.3, volume(3) > 0.3
    places = levels_of(stage((1,), (0.0,)))[0].lattice.points(CPU)
    weights = {}
    for name, masks in (
        ("neither", {}),
        ("fixed", {"fixed_mask": fixed_mask}),
        ("moving", {"moving_mask": moving_mask}),
        ("both", {"fixed_mask": fixed_mask, "moving_mask": moving_mask}),
    ):
        (level,) = levels_of(stage((1,), (0.0,)), **masks)
        moved, weights[name] = level.moved(places)
        np.testing.assert_allclose(moved.numpy(), volume(1), atol=1e-5)
    assert weights["neither"] is None
    for name, wanted in (
        ("fixed", fixed_mask),
        ("moving", moving_mask),
        ("both", fixed_mask & moving_mask),
    ):
        weight = weights[name]
        assert weight is not None
        np.testing.assert_allclose(weight.numpy(), wanted, atol=1e-4)


def test_masks_of_coarse_levels_are_shares() -> None:
    (level,) = levels_of(stage((2,), (0.0,)), fixed_mask=volume(2) > 0.5)
    mask = level.fixed_mask
    assert mask is not None
    assert mask.shape == level.lattice.shape
    blocks = (volume(2) > 0.5).reshape(10, 2, 12, 2, 9).mean(axis=(1, 3))
    np.testing.assert_allclose(mask.numpy(), blocks, atol=1e-5)
