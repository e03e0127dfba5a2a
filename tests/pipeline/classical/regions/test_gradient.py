"""The gradient against SimpleITK's."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from atlaseg.pipeline.classical.regions.gradient import gradient_magnitude
from atlaseg.pipeline.errors import GeometryError, OptionError


def smooth_noise(seed: int = 0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(24, 20, 16)), 1.5)
    return (noise / noise.std()).astype(np.float32)


def test_gradient_is_simpleitks_with_its_spacing() -> None:
    voxels, spacing = smooth_noise(), (0.7, 1.0, 4.0)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing[::-1])
    theirs = sitk.GetArrayFromImage(sitk.GradientMagnitude(image, useImageSpacing=True))
    core = (slice(1, -1),) * 3
    np.testing.assert_allclose(gradient_magnitude(voxels, spacing)[core], theirs[core], rtol=1e-4, atol=1e-5)


def test_gradient_of_two_channels_is_that_of_a_vector() -> None:
    voxels = np.stack([smooth_noise(), smooth_noise(seed=1)])
    single = [gradient_magnitude(channel, (1, 2, 3), sigma=1.0) for channel in voxels]
    np.testing.assert_allclose(gradient_magnitude(voxels, (1, 2, 3), sigma=1.0), np.hypot(*single), rtol=1e-5)


def test_bad_input_is_refused_in_one_line() -> None:
    with pytest.raises(OptionError, match="sigma -1"):
        gradient_magnitude(np.zeros((3, 3, 3)), (1, 1, 1), sigma=-1)
    with pytest.raises(GeometryError, match="3-D image"):
        gradient_magnitude(np.zeros((3, 3)), (1, 1))
