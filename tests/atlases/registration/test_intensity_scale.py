"""Rescaling: a known answer, invariances, and one clear line for images that cannot be rescaled."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from skimage.exposure import rescale_intensity

from atlaseg.atlases.registration.intensity_scale import rescale, rescale_itk, standardise_locally
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, (9, 10, 11)).astype(np.float32)


def test_agrees_with_scikit_image(image: np.ndarray) -> None:
    low, high = np.percentile(image, (2, 98))
    expected = rescale_intensity(image, in_range=(low, high), out_range=(0.0, 1.0))
    result = rescale(image, percentiles=(2, 98))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


@given(st.floats(1e-3, 1e5), st.floats(-1e5, 1e5))
def test_scanner_scale_and_offset_do_not_matter(scale: float, offset: float) -> None:
    image = np.random.default_rng(1).normal(0, 1, (5, 6, 7))
    np.testing.assert_allclose(rescale(image * scale + offset), rescale(image), atol=1e-4)


def test_hot_voxels_change_little_and_the_input_nothing(image: np.ndarray) -> None:
    hot = image.copy()
    hot[0, 0, :3] = 1e6
    before = hot.copy()
    assert np.abs(rescale(hot) - rescale(image))[1:].max() < 0.05
    np.testing.assert_array_equal(hot, before)


def test_percentiles_come_from_the_mask_alone(image: np.ndarray) -> None:
    mask = np.zeros(image.shape, bool)
    mask[2:5] = True
    dark = image.copy()
    dark[~mask] = -1000
    np.testing.assert_array_equal(rescale(dark, mask)[mask], rescale(image, mask)[mask])
    assert (rescale(dark, mask)[~mask] == 0).all()


def test_small_object_before_an_even_background() -> None:
    image = np.zeros((20, 20, 20), np.int16)
    image[0, 0, 0] = 7
    result = rescale(image)
    assert result[0, 0, 0] == 1
    assert result.sum() == 1


def test_itk_images_keep_their_grid(image: np.ndarray) -> None:
    itk = sitk.GetImageFromArray(image)
    itk.SetOrigin((1, 2, 3))
    itk.SetSpacing((0.5, 1, 2))
    itk.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, 1))
    mask = sitk.Cast(itk > 90, sitk.sitkUInt8)
    result = rescale_itk(itk, mask)
    assert result.GetPixelID() == sitk.sitkFloat32
    assert (result.GetOrigin(), result.GetSpacing(), result.GetDirection()) == (
        itk.GetOrigin(),
        itk.GetSpacing(),
        itk.GetDirection(),
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(result), rescale(image, image > 90))


def test_what_cannot_be_rescaled_is_named(image: np.ndarray) -> None:
    with pytest.raises(DatasetError, match=r"scan\.nii: every voxel is 3"):
        rescale(np.full((3, 3, 3), 3), name="scan.nii")
    with pytest.raises(DatasetError, match="every voxel within its mask"):
        rescale(image, image == image.max())
    with pytest.raises(DatasetError, match="mask is empty"):
        rescale(image, np.zeros(image.shape))
    with pytest.raises(GeometryError, match="mask has shape"):
        rescale(image, np.ones((3, 3, 3)))
    with pytest.raises(OptionError, match="percentiles"):
        rescale(image, percentiles=(99, 1))
    for bad in (np.nan, np.inf):
        broken = image.copy()
        broken[0, 0, 0] = bad
        with pytest.raises(DatasetError, match="NaN or infinite"):
            rescale(broken)


def test_local_standardisation_sees_through_scale_and_bias() -> None:
    """A slow change of brightness and contrast all but disappears; textures stay comparable."""
    import SimpleITK as sitk
    from scipy.ndimage import gaussian_filter

    texture = gaussian_filter(np.random.default_rng(0).normal(size=(30, 28, 26)), 1.2)
    texture /= np.abs(texture).max()
    ramp = np.linspace(0.3, 1.0, 26)[None, None, :]
    images = []
    for voxels in (0.5 + 0.5 * texture, ramp * (0.5 + 0.5 * texture)):
        image = sitk.GetImageFromArray(voxels.astype(np.float32))
        image.SetSpacing((1.0, 1.0, 2.0))
        images.append(sitk.GetArrayFromImage(standardise_locally(image, 4.0)))
    assert np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1] > 0.95
    assert abs(images[1].mean()) < 0.1
    assert 0.4 < images[1].std() < 1.1


def test_local_standardisation_of_one_slice_and_even_places() -> None:
    import SimpleITK as sitk

    even = standardise_locally(sitk.Image(8, 8, 1, sitk.sitkFloat32) + 0.5, 3.0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(even), 0, atol=1e-4)
