"""Octree leaves tile the volume exactly and are homogeneous; merging finds known parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.classical.methods.split_merge import (
    SplitMergeOptions,
    noise_deviation,
    split,
    split_merge,
)
from atlaseg.pipeline.classical.regions.region_adjacency import Criterion
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import GeometryError, OptionError

SHAPES = st.tuples(*[st.integers(1, 21)] * 3)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 1000), st.sampled_from([(1, 1, 1), (0.7, 0.7, 5), (3, 1, 0.2)]), st.booleans())
def test_leaves_tile_the_mask_exactly(
    shape: tuple[int, int, int], seed: int, spacing: tuple[float, float, float], masked: bool
) -> None:
    rng = np.random.default_rng(seed)
    voxels = rng.normal(0, 0.1, shape)
    voxels[tuple(slice(rng.integers(0, n), None) for n in shape)] += 1
    mask = rng.random(shape) < 0.9 if masked else np.ones(shape, dtype=bool)
    tree = split(voxels, spacing, mask=mask, noise=0.1)
    covered = np.zeros(shape, dtype=int)
    for number, (start, side) in enumerate(zip(tree.starts, tree.sides, strict=True), 1):
        block = tuple(slice(a, a + n) for a, n in zip(start, side, strict=True))
        covered[block] += 1
        assert (tree.leaves[block] == number).all()
        assert tree.leaves[block].shape == tuple(side)
    assert np.array_equal(covered, mask.astype(int))
    assert np.array_equal(tree.leaves > 0, mask)


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.integers(0, 1000))
def test_without_noise_leaves_are_constant_and_as_large_as_can_be(
    shape: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    voxels = np.zeros(shape)
    voxels[tuple(slice(rng.integers(0, n), None) for n in shape)] = 1e4
    tree = split(voxels, (1, 1, 1), noise=0)
    top = 1 << int(np.ceil(np.log2(max(shape))))
    ours = sorted(zip(map(tuple, tree.starts.tolist()), map(tuple, tree.sides.tolist()), strict=True))
    assert ours == sorted(_constant_blocks(voxels, (0, 0, 0), top))


def _constant_blocks(
    voxels: np.ndarray, start: tuple[int, ...], side: int
) -> list[tuple[tuple[int, ...], ...]]:
    """Octree by recursion, one block at a time."""
    block = voxels[tuple(slice(a, a + side) for a in start)]
    if block.size == 0:
        return []
    if np.ptp(block) == 0:
        return [(start, block.shape)]
    half = side // 2
    octants = [
        tuple(a + half * o for a, o in zip(start, octant, strict=True)) for octant in np.ndindex(2, 2, 2)
    ]
    return [leaf for octant in octants for leaf in _constant_blocks(voxels, octant, half)]


def test_blocks_are_near_to_cubes_in_mm() -> None:
    tree = split(np.zeros((64, 64, 16)), (0.7, 0.7, 5.0), noise=1)
    assert len(tree.sides) == 1
    voxels = np.zeros((64, 64, 16))
    voxels[31, 31, 7] = 100
    tree = split(voxels, (0.7, 0.7, 5.0), noise=0)
    extents = tree.sides * (0.7, 0.7, 5.0)
    grown = (tree.sides[:, 2] > 1) & (tree.sides < (64, 64, 16)).all(axis=1)
    assert grown.any()
    assert (extents[grown].max(axis=1) / extents[grown].min(axis=1)).max() < 2


def test_noise_alone_is_rarely_split_and_its_deviation_found() -> None:
    voxels = np.random.default_rng(0).normal(3, 0.2, (1, 64, 64, 64))
    assert noise_deviation(voxels, np.ones((64, 64, 64), bool)) == pytest.approx([0.2], rel=0.01)
    assert len(split(voxels, (1, 1, 1), noise=0.2).sides) == 1


def test_a_small_part_within_a_large_block_is_found() -> None:
    voxels = np.random.default_rng(0).normal(0, 0.1, (32, 32, 32))
    voxels[9:12, 17:20, 21:24] += 1
    tree = split(voxels, (1, 1, 1), noise=0.1)
    assert len(tree.sides) > 8
    assert len(np.unique(tree.leaves[9:12, 17:20, 21:24])) > 8


@pytest.mark.parametrize("criterion", ["ward", "mean", "mumford-shah"])
def test_noisy_spheres_are_found(criterion: Criterion) -> None:
    x, y, z = np.ogrid[:48, :40, :20]
    truth = np.zeros((48, 40, 20), dtype=int)
    truth[(x - 14) ** 2 + (y - 20) ** 2 + (2 * (z - 10)) ** 2 < 100] = 1
    truth[(x - 35) ** 2 + (y - 20) ** 2 + (2 * (z - 10)) ** 2 < 81] = 2
    voxels = np.array([0.0, 1.0, 2.0])[truth] + np.random.default_rng(0).normal(0, 0.1, truth.shape)
    regions = split_merge(voxels, (1, 1, 2), regions=3, criterion=criterion)
    assert regions.dtype == np.int32
    assert np.unique(regions).tolist() == [1, 2, 3]
    joint = np.array([np.bincount(truth[regions == n], minlength=3) for n in (1, 2, 3)])
    assert sorted(joint.argmax(axis=1)) == [0, 1, 2]
    assert joint.max(axis=1).sum() / truth.size > 0.995


def test_second_channel_separates_what_the_first_does_not() -> None:
    voxels = np.random.default_rng(0).normal(0, 0.05, (2, 16, 16, 16))
    voxels[1, :7] += 1
    regions = split_merge(voxels, (1, 1, 1), regions=2)
    assert len(np.unique(regions[:7])) == len(np.unique(regions[7:])) == 1
    assert regions.max() == 2


def test_regions_are_connected_and_stay_in_the_mask() -> None:
    from scipy.ndimage import label

    rng = np.random.default_rng(0)
    mask = np.ones((20, 20, 20), dtype=bool)
    mask[9] = False
    mask[0, 0] = False
    scan = Scan.of(rng.normal(size=(20, 20, 20)), np.diag([1, 1, 3, 1]), mask=mask)
    regions = SplitMergeOptions(regions=30).classes(scan).regions
    assert regions is not None
    assert np.array_equal(regions > 0, mask)
    assert np.unique(regions).tolist() == list(range(31))
    assert all(label(regions == n)[1] == 1 for n in range(1, 31))


def test_the_number_of_regions_follows_the_mask_unless_it_is_given() -> None:
    scan = Scan.of(np.random.default_rng(0).normal(size=(10, 10, 10)))
    for options, number in (
        (SplitMergeOptions(region_size=25, noise=0), 40),
        (SplitMergeOptions(regions=7, noise=0), 7),
    ):
        regions = options.classes(scan).regions
        assert regions is not None
        assert regions.max() == number


def test_bad_input_is_refused_in_one_line() -> None:
    voxels = np.zeros((4, 4, 4))
    with pytest.raises(GeometryError, match="one 3-D grid"):
        split(voxels, (1, 1, 1), mask=np.ones((4, 4, 5), bool))
    with pytest.raises(OptionError, match="noise -1"):
        split(voxels, (1, 1, 1), noise=-1)
    with pytest.raises(OptionError, match="chance 2"):
        split(voxels, (1, 1, 1), chance=2)
    with pytest.raises(OptionError, match="ask for 1 or more"):
        split_merge(voxels, (1, 1, 1), regions=0)
