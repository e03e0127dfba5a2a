"""Watershed against SimpleITK's and scikit-image's, and on spheres that touch."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from atlaseg.pipeline.classical.methods.watershed import (
    WatershedOptions,
    minima,
    split_touching,
    watershed,
)
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import GeometryError, OptionError


def smooth_noise(shape: tuple[int, int, int] = (24, 20, 16), seed: int = 0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return (noise / noise.std()).astype(np.float32)


def image_of(array: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(array)


@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_minima_are_scikit_images(depth: float) -> None:
    from skimage.morphology import h_minima, local_minima

    surface = smooth_noise()
    ours = minima(surface, depth=depth)
    theirs = h_minima(surface, depth, footprint=_faces()) if depth else local_minima(surface, connectivity=1)
    # theirs marks the bottom of each minimum, ours all of it up to the depth
    bottoms, number = label(theirs)
    assert ours.max() == number
    assert sorted(ours[bottoms == n].min() for n in range(1, number + 1)) == list(range(1, number + 1))


def _faces() -> np.ndarray:
    from scipy.ndimage import generate_binary_structure

    return generate_binary_structure(3, 1)


def test_flooding_is_simpleitks() -> None:
    surface = smooth_noise((32, 30, 28), seed=2)
    ours = watershed(surface, depth=0.3)
    markers = minima(surface, depth=0.3)
    theirs = sitk.GetArrayFromImage(
        sitk.MorphologicalWatershedFromMarkers(
            image_of(surface), image_of(markers.astype(np.uint32)), False, False
        )
    )
    assert ours.max() == markers.max() > 5
    assert (ours == theirs).mean() > 0.999
    # theirs counts its own minima, from the level alone
    level = sitk.GetArrayFromImage(sitk.MorphologicalWatershed(image_of(surface), 0.3, False, False))
    assert level.max() == ours.max()


def test_two_touching_spheres_become_two_halves() -> None:
    spacing = (1.0, 0.5, 2.0)
    places = np.stack(
        np.meshgrid(*[np.arange(n) * s for n, s in zip((60, 60, 15), spacing, strict=True)], indexing="ij")
    )
    first = ((places - np.array([20.0, 15, 14])[:, None, None, None]) ** 2).sum(axis=0) <= 10**2
    second = ((places - np.array([38.0, 15, 14])[:, None, None, None]) ** 2).sum(axis=0) <= 10**2
    assert (first & second).any()
    assert label(first | second)[1] == 1
    parts = split_touching(first | second, spacing, depth=1.5)
    assert np.array_equal(parts > 0, first | second)
    left = places[0] < 29
    expected = np.where(left, parts[20, 30, 7], parts[38, 30, 7])
    off_the_middle = (first | second) & (places[0] != 29)
    assert parts.max() == 2
    assert (parts == expected)[off_the_middle].mean() == 1


def test_one_sphere_stays_one() -> None:
    x, y, z = np.ogrid[:30, :30, :30]
    assert split_touching((x - 15) ** 2 + (y - 15) ** 2 + (z - 14) ** 2 < 120, (1, 1, 1)).max() == 1


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 9)] * 3), st.integers(0, 1000), st.floats(0, 2))
def test_basins_are_connected_and_fill_the_mask(shape: tuple[int, int, int], seed: int, depth: float) -> None:
    rng = np.random.default_rng(seed)
    surface, mask = rng.normal(size=shape), rng.random(shape) < 0.7
    mask[0, 0, 0] = True
    basins = watershed(surface, depth=depth, mask=mask)
    assert np.array_equal(basins > 0, mask)
    assert np.unique(basins[mask]).tolist() == list(range(1, basins.max() + 1))
    assert all(label(basins == n)[1] == 1 for n in range(1, basins.max() + 1))


def test_lines_separate_basins() -> None:
    surface = smooth_noise()
    basins = watershed(surface, depth=0.3, lines=True)
    assert 0 < (basins == 0).mean() < 0.5
    for axis in range(3):
        a, b = np.moveaxis(basins, axis, 0)[:-1], np.moveaxis(basins, axis, 0)[1:]
        assert not ((a != b) & (a > 0) & (b > 0)).any()


def test_given_markers_keep_their_numbers() -> None:
    surface = np.abs(np.arange(21.0) - 10)[:, None, None] * np.ones((21, 4, 4)) * -1
    markers = np.zeros(surface.shape, dtype=np.uint8)
    markers[2, 2, 2], markers[18, 1, 1] = 7, 4
    flooded = watershed(surface, markers)
    assert (flooded[:10] == 7).all()
    assert (flooded[11:] == 4).all()


def test_more_depth_means_fewer_regions_and_the_mask_is_kept() -> None:
    mask = np.ones((24, 20, 16), bool)
    mask[:5] = False
    scan = Scan.of(smooth_noise(), np.diag([1, 1, 3, 1]), mask=mask)
    few, many = (WatershedOptions(depth=d).classes(scan).regions for d in (0.2, 0.0))
    assert few is not None
    assert many is not None
    assert few.dtype == np.int32
    assert 1 < few.max() < many.max()
    assert np.array_equal(few > 0, mask)


def test_a_flat_surface_is_one_region() -> None:
    assert (watershed(np.zeros((3, 4, 5)), depth=0.1) == 1).all()


def test_bad_input_is_refused_in_one_line() -> None:
    surface = np.zeros((3, 3, 3))
    with pytest.raises(OptionError, match="no marker"):
        watershed(surface, np.zeros((3, 3, 3), int))
    with pytest.raises(OptionError, match="hold -1"):
        watershed(surface, np.full((3, 3, 3), -1))
    with pytest.raises(GeometryError, match="markers have shape"):
        watershed(surface, np.ones((3, 3, 4), int))
    with pytest.raises(GeometryError, match="mask has shape"):
        watershed(surface, mask=np.ones((3, 3, 4), bool))
    with pytest.raises(OptionError, match="depth -1"):
        watershed(surface, depth=-1)
