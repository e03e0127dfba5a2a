"""Supervoxels beside scikit-image's, and merging of them on known parts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from atlaseg.pipeline.classical.methods.region_graph import RegionGraphOptions, region_graph, supervoxels
from atlaseg.pipeline.classical.regions.region_adjacency import Criterion, RegionAdjacency
from atlaseg.pipeline.classical.regions.region_merging import merge_greedily
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import GeometryError, OptionError


def parts(shape: tuple[int, int, int] = (48, 40, 32), noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Noisy volume of four levels, 0 to 1, and its levels."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=shape), 4)
    truth = np.digitize(field / field.std(), [-0.8, 0, 0.8])
    return truth / 3 + rng.normal(0, noise, shape), truth


def achievable(regions: np.ndarray, truth: np.ndarray) -> float:
    """Share of voxels that are right when each region has the label that most of it has."""
    joint = np.zeros((regions.max() + 1, truth.max() + 1))
    np.add.at(joint, (regions.ravel(), truth.ravel()), 1)
    return float(joint.max(axis=1).sum() / truth.size)


def test_supervoxels_keep_to_edges_as_scikit_images_do() -> None:
    from skimage.segmentation import slic

    voxels, truth = parts()
    ours = supervoxels(voxels, (1, 1, 1), size=4)
    theirs = slic(voxels, n_segments=voxels.size // 64, compactness=0.2, channel_axis=None, start_label=1)
    assert ours.max() == pytest.approx(theirs.max(), rel=0.4)
    assert achievable(ours, truth) > max(0.97, achievable(theirs, truth) - 0.01)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 0.7, 4), (1, 3, 1)])
def test_supervoxels_are_connected_numbered_and_near_to_cubes_in_mm(
    spacing: tuple[float, float, float],
) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, (36, 36, 24))
    found = supervoxels(noise, spacing, size=5, compactness=1)
    sizes = np.bincount(found.ravel())
    assert sizes[0] == 0
    assert (sizes[1:] > 0).all()
    assert label(found == 7)[1] == 1
    volume = np.median(sizes[1:]) * np.prod(spacing)
    extents = np.median(
        [[np.ptp(places) + 1 for places in np.nonzero(found == n)] for n in range(1, found.max() + 1, 5)],
        axis=0,
    ) * np.array(spacing)
    assert extents.max() / extents.min() < 2
    # whole voxels and what is left at the faces change it: along z, 1.6 voxels become 2
    assert 0.6 < volume / (5**3 * np.prod(spacing)) < 1.7


def test_two_channels_count_together() -> None:
    voxels = np.random.default_rng(0).normal(0, 0.02, (2, 20, 20, 20))
    voxels[1, :7] += 1
    regions = region_graph(voxels, (1, 1, 1), regions=2, size=3)
    truth = np.zeros((20, 20, 20), int)
    truth[:7] = 1
    assert achievable(regions, truth) == 1


@pytest.mark.parametrize("criterion", ["ward", "mean", "mumford-shah"])
def test_noisy_spheres_are_found(criterion: Criterion) -> None:
    x, y, z = np.ogrid[:48, :40, :20]
    truth = np.zeros((48, 40, 20), dtype=int)
    truth[(x - 14) ** 2 + (y - 20) ** 2 + (2 * (z - 10)) ** 2 < 100] = 1
    truth[(x - 35) ** 2 + (y - 20) ** 2 + (2 * (z - 10)) ** 2 < 81] = 2
    voxels = np.array([0.0, 0.5, 1.0])[truth] + np.random.default_rng(0).normal(0, 0.03, truth.shape)
    regions = region_graph(voxels, (1, 1, 2), regions=3, criterion=criterion, size=3)
    assert np.unique(regions).tolist() == [1, 2, 3]
    assert achievable(regions, truth) > 0.99


def test_the_hierarchy_has_every_number_of_regions() -> None:
    voxels, _ = parts((24, 20, 16))
    small = supervoxels(voxels, (1, 1, 1))
    tree = merge_greedily(RegionAdjacency.of(small, voxels, (1, 1, 1)))
    for number in (1, 5, 30):
        cut = tree.cut(regions=number)[small - 1] + 1
        assert cut.max() == number
        assert np.array_equal(cut, region_graph(voxels, (1, 1, 1), regions=number))


def test_the_mask_is_kept_and_cuts() -> None:
    voxels, _ = parts((24, 20, 16))
    mask = np.ones(voxels.shape, dtype=bool)
    mask[:3], mask[12] = False, False
    regions = RegionGraphOptions(regions=10).classes(Scan.of(voxels, mask=mask)).regions
    assert regions is not None
    assert np.array_equal(regions > 0, mask)
    assert all(label(regions == n)[1] == 1 for n in range(1, 11))
    assert not supervoxels(voxels, (1, 1, 1), mask=np.zeros(voxels.shape, bool)).any()


def test_same_scan_same_regions() -> None:
    voxels, _ = parts((24, 20, 16))
    first, second = (region_graph(voxels, (1, 1, 2), regions=20) for _ in range(2))
    assert np.array_equal(first, second)


def test_thin_volumes_are_divided_too() -> None:
    voxels, truth = parts((40, 40, 1), noise=0.02)
    assert achievable(supervoxels(voxels, (1, 1, 1)), truth) > 0.95


def test_bad_input_is_refused_in_one_line() -> None:
    voxels = np.zeros((4, 4, 4))
    with pytest.raises(GeometryError, match="one 3-D grid"):
        supervoxels(voxels, (1, 1, 1), mask=np.ones((4, 4, 5), bool))
    with pytest.raises(OptionError, match="size must be 1"):
        supervoxels(voxels, (1, 1, 1), size=0.5)
    with pytest.raises(OptionError, match="compactness above 0"):
        supervoxels(voxels, (1, 1, 1), compactness=0)
    with pytest.raises(OptionError, match="ask for 1 or more"):
        region_graph(voxels, (1, 1, 1), regions=0)
