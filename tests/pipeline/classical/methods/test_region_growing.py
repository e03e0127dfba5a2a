"""Several labels at once: order of seeds, competition, points in voxels and mm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from atlaseg.pipeline.classical.methods.region_growing import RegionGrowingOptions, grow_regions, seed_map
from atlaseg.pipeline.classical.regions.connected_growth import Homogeneity, grown_from
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import GeometryError, OptionError

SHAPE = (16, 14, 12)


def noise(seed: int = 0) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.5)
    return field / field.std()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["range", "neighbourhood", "statistics", "difference"]))
def test_neither_the_order_of_seeds_nor_of_labels_matters(seed: int, homogeneity: Homogeneity) -> None:
    rng = np.random.default_rng(seed)
    voxels = noise(seed)
    places = rng.permutation(np.argwhere(np.ones(SHAPE)))[:6].tolist()
    points = {1: places[:2], 2: places[2:3], 3: places[3:]}
    turned = {label: points[label][::-1] for label in (3, 1, 2)}
    first, second = (
        grow_regions(voxels, (1, 1, 2), seed_map(p, SHAPE), homogeneity=homogeneity, tolerance=0.4)
        for p in (points, turned)
    )
    assert np.array_equal(first, second)
    exchanged = {1: points[3], 2: points[1], 3: points[2]}
    third = grow_regions(
        voxels, (1, 1, 2), seed_map(exchanged, SHAPE), homogeneity=homogeneity, tolerance=0.4
    )
    assert np.array_equal(np.array([0, 3, 1, 2])[third], first)


def test_labels_hold_their_seeds_and_only_what_they_claim() -> None:
    voxels = noise()
    seeds = seed_map({1: [(2, 2, 2)], 4: [(12, 10, 8)], 7: [(3, 12, 3)]}, SHAPE)
    grown = grow_regions(voxels, (1, 1, 1), seeds, homogeneity="range", tolerance=1.0)
    alone = {n: grown_from(voxels, seeds == n, homogeneity="range", tolerance=1.0) for n in (1, 4, 7)}
    claims = sum(region.astype(int) for region in alone.values())
    assert (claims > 1).sum() > 50
    assert np.array_equal(grown > 0, claims > 0)
    assert (grown[seeds > 0] == seeds[seeds > 0]).all()
    for n, region in alone.items():
        assert region[grown == n].all()
        assert (grown[region & (claims == 1)] == n).all()


def test_two_parts_of_equal_intensity_meet_at_the_neck() -> None:
    """A dumb-bell, whose neck is a little darker: both labels claim all of it, and the gradient parts them there."""
    x, y, z = np.ogrid[:40, :16, :16]
    balls = [(x - c) ** 2 + (y - 8) ** 2 + (z - 8) ** 2 <= 49 for c in (10, 29)]
    voxels = np.where(balls[0] | balls[1], 1.0, 0.0)
    voxels[16:24, 6:11, 6:11] = 0.9
    seeds = seed_map({1: [(10, 8, 8)], 2: [(29, 8, 8)]}, voxels.shape)
    grown = grow_regions(voxels, (1, 1, 1), seeds, homogeneity="range", tolerance=0.2)
    assert np.array_equal(grown > 0, voxels > 0.5)
    assert (grown[:16][voxels[:16] > 0.5] == 1).all()
    assert (grown[24:][voxels[24:] > 0.5] == 2).all()


def test_spheres_are_found_from_a_point_in_mm() -> None:
    affine = np.array([[0, 0, -1.5, 40], [-0.8, 0, 0, 20], [0, 0.8, 0, -5], [0, 0, 0, 1]])
    x, y, z = np.ogrid[:32, :30, :16]
    truth = (0.8 * (x - 14)) ** 2 + (0.8 * (y - 15)) ** 2 + (1.5 * (z - 8)) ** 2 < 60
    voxels = truth + np.random.default_rng(0).normal(0, 0.1, truth.shape)
    centre = affine[:3, :3] @ (14, 15, 8) + affine[:3, 3]
    scan = Scan.of(voxels, affine)
    points = {1: [tuple(np.linalg.inv(affine)[:3] @ (*centre, 1))]}
    assert np.array_equal(seed_map({1: [centre]}, truth.shape, affine), seed_map(points, truth.shape))
    grown = RegionGrowingOptions(multiplier=3.5).grow(scan, points)
    assert 2 * (grown[truth] == 1).sum() / (truth.sum() + (grown == 1).sum()) > 0.98
    by_map = RegionGrowingOptions(multiplier=3.5).grow(scan, seeds=seed_map(points, truth.shape))
    assert np.array_equal(grown, by_map)


def test_regions_stay_in_the_mask() -> None:
    mask = np.ones(SHAPE, bool)
    mask[8:] = False
    scan = Scan.of(noise(), mask=mask)
    grown = RegionGrowingOptions(homogeneity="range", tolerance=9).grow(scan, {1: [(2, 2, 2)]})
    assert np.array_equal(grown > 0, mask)


def test_bad_seeds_are_refused_in_one_line() -> None:
    with pytest.raises(
        OptionError, match=r"seed \(16, 0, 0\) lies in voxel \(16, 0, 0\), outside the volume of 16 x 14"
    ):
        seed_map({1: [(16, 0, 0)]}, SHAPE)
    with pytest.raises(OptionError, match="label 0 cannot"):
        seed_map({0: [(1, 0, 0)]}, SHAPE)
    with pytest.raises(OptionError, match="of label 1 and of label 2"):
        seed_map({1: [(1, 0, 0)], 2: [(1.2, 0, 0)]}, SHAPE)
    with pytest.raises(OptionError, match="not a point"):
        seed_map({1: [(1, 0)]}, SHAPE)
    with pytest.raises(OptionError, match="not a point"):
        seed_map({1: [(1, 0, float("nan"))]}, SHAPE)
    with pytest.raises(OptionError, match="no seed"):
        seed_map({}, SHAPE)
    scan = Scan.of(noise())
    with pytest.raises(OptionError, match="either points or"):
        RegionGrowingOptions().grow(scan)
    with pytest.raises(GeometryError, match="one 3-D grid"):
        RegionGrowingOptions().grow(scan, seeds=np.ones((3, 3, 3), int))
    with pytest.raises(OptionError, match="none below 0"):
        RegionGrowingOptions().grow(scan, seeds=np.full(SHAPE, -1))
