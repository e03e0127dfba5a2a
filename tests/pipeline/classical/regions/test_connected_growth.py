"""One region against SimpleITK's three growing filters, scipy's graph, and whatever order seeds come in."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from atlaseg.pipeline.classical.regions.connected_growth import Homogeneity, connected_to, grown_from
from atlaseg.pipeline.errors import GeometryError, OptionError

POINTS = [(5, 6, 7), (20, 12, 9), (11, 3, 2)]


def smooth_noise(shape: tuple[int, int, int] = (24, 20, 16), seed: int = 0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return (noise / noise.std()).astype(np.float32)


def seeds_at(points: list[tuple[int, int, int]], shape: tuple[int, ...] = (24, 20, 16)) -> np.ndarray:
    seeds = np.zeros(shape, dtype=bool)
    for point in points:
        seeds[point] = True
    return seeds


def itk(array: np.ndarray) -> sitk.Image:
    """Image whose axes are the array's, so that points need no turning."""
    return sitk.GetImageFromArray(np.ascontiguousarray(array.T))


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image).T > 0


def limits(voxels: np.ndarray, points: list[tuple[int, int, int]], tolerance: float) -> tuple[float, float]:
    values = [float(voxels[p]) for p in points]
    return min(values) - tolerance, max(values) + tolerance


@pytest.mark.parametrize("tolerance", [0.1, 0.5, 1.0])
def test_range_is_connected_threshold(tolerance: float) -> None:
    voxels = smooth_noise()
    ours = grown_from(voxels, seeds_at(POINTS), homogeneity="range", tolerance=tolerance)
    theirs = array(sitk.ConnectedThreshold(itk(voxels), POINTS, *limits(voxels, POINTS, tolerance)))
    assert 3 < ours.sum() < ours.size
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("radius", "tolerance"), [(1, 0.35), (2, 0.6)])
def test_neighbourhood_is_neighborhood_connected(radius: int, tolerance: float) -> None:
    voxels = gaussian_filter(smooth_noise(), 1)
    ours = grown_from(
        voxels, seeds_at(POINTS), homogeneity="neighbourhood", tolerance=tolerance, radius=radius
    )
    theirs = sitk.NeighborhoodConnected(
        itk(voxels), POINTS, *limits(voxels, POINTS, tolerance), [radius] * 3, 1.0
    )
    assert 3 < ours.sum() < ours.size
    assert np.array_equal(ours, array(theirs))


@pytest.mark.parametrize("iterations", [0, 1, 4])
@pytest.mark.parametrize("points", [POINTS, POINTS[:1]])
def test_statistics_is_confidence_connected(iterations: int, points: list[tuple[int, int, int]]) -> None:
    voxels = smooth_noise()
    voxels[:, :10] += 4
    ours = grown_from(voxels, seeds_at(points), iterations=iterations, multiplier=2.2)
    theirs = sitk.ConfidenceConnected(
        itk(voxels), points, numberOfIterations=iterations, multiplier=2.2, initialNeighborhoodRadius=1
    )
    assert 3 < ours.sum() < ours.size
    assert np.array_equal(ours, array(theirs))


def test_difference_is_the_component_of_the_graph_of_small_steps() -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    voxels, mask = smooth_noise(), np.random.default_rng(1).random((24, 20, 16)) < 0.9
    points = [tuple(p) for p in np.argwhere(mask)[[100, 2500]]]
    ours = grown_from(voxels, seeds_at(points), homogeneity="difference", tolerance=0.3, mask=mask)
    index = np.arange(voxels.size).reshape(voxels.shape)
    links = []
    for axis in range(3):
        a, b = (np.moveaxis(index, axis, 0)[cut].ravel() for cut in (slice(-1), slice(1, None)))
        steps = np.abs(voxels.ravel()[a] - voxels.ravel()[b])
        fine = (steps <= 0.3) & mask.ravel()[a] & mask.ravel()[b]
        links.append(np.stack([a[fine], b[fine]]))
    i, j = np.concatenate(links, axis=1)
    parts = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(voxels.size,) * 2))[1]
    expected = np.isin(parts, [parts[index[p]] for p in points]).reshape(voxels.shape)
    assert 100 < ours.sum() < ours.size
    assert np.array_equal(ours, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["range", "neighbourhood", "statistics", "difference"]))
def test_a_region_is_connected_to_its_seeds_and_stays_in_the_mask(
    seed: int, homogeneity: Homogeneity
) -> None:
    rng = np.random.default_rng(seed)
    voxels = rng.normal(size=(2, 8, 9, 7)).astype(np.float32)
    mask = rng.random((8, 9, 7)) < 0.8
    seeds = seeds_at([tuple(p) for p in rng.permutation(np.argwhere(mask))[:3]], (8, 9, 7))
    region = grown_from(voxels, seeds, homogeneity=homogeneity, tolerance=1.0, mask=mask)
    assert not (region & ~mask).any()
    assert np.array_equal(connected_to(region, seeds), region)
    assert region[seeds].all()


@pytest.mark.parametrize("homogeneity", ["range", "neighbourhood", "statistics", "difference"])
def test_regions_move_with_the_scan_when_it_is_turned(homogeneity: Homogeneity) -> None:
    voxels, seeds = smooth_noise(), seeds_at(POINTS)
    there = grown_from(voxels, seeds, homogeneity=homogeneity, tolerance=0.3)
    turned = grown_from(
        voxels.transpose(2, 0, 1)[::-1],
        seeds.transpose(2, 0, 1)[::-1],
        homogeneity=homogeneity,
        tolerance=0.3,
    )
    assert np.array_equal(turned, there.transpose(2, 0, 1)[::-1])


def test_a_bias_field_is_followed_by_differences_alone() -> None:
    ramp = np.linspace(0, 3, 30)[:, None, None] * np.ones((30, 6, 6))
    ramp[:, 3:] += 1
    seeds = seeds_at([(0, 0, 0)], ramp.shape)
    by_steps = grown_from(ramp, seeds, homogeneity="difference", tolerance=0.2)
    assert by_steps[:, :3].all()
    assert not by_steps[:, 3:].any()
    assert grown_from(ramp, seeds, homogeneity="range", tolerance=0.2).sum() < 100


def test_a_neighbourhood_does_not_leak_through_a_thin_bridge() -> None:
    voxels = np.zeros((21, 9, 9))
    voxels[1:8, 1:8, 1:8] = voxels[13:20, 1:8, 1:8] = voxels[8:13, 4, 4] = 1
    seeds = seeds_at([(4, 4, 4)], voxels.shape)
    assert grown_from(voxels, seeds, homogeneity="range")[15, 4, 4]
    assert not grown_from(voxels, seeds, homogeneity="neighbourhood")[15, 4, 4]


def test_bad_input_is_refused_in_one_line() -> None:
    voxels, seeds = smooth_noise(), seeds_at(POINTS)
    with pytest.raises(GeometryError, match="one 3-D grid"):
        grown_from(voxels, seeds[:-1])
    with pytest.raises(OptionError, match="seeds need one"):
        grown_from(voxels, np.zeros_like(seeds))
    mask = np.ones_like(seeds)
    mask[POINTS[0]] = False
    with pytest.raises(OptionError, match=r"\(5, 6, 7\) lies outside the mask"):
        grown_from(voxels, seeds, mask=mask)
    with pytest.raises(OptionError, match="choose one of range"):
        grown_from(voxels, seeds, homogeneity="colour")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="tolerance -1"):
        grown_from(voxels, seeds, tolerance=-1)
