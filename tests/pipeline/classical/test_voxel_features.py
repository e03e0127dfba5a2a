"""Features of voxels: against SimpleITK, and that the frame of the array does not matter."""

import numpy as np
import pytest

from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.classical.voxel_features import feature_names, voxel_features
from atlaseg.pipeline.errors import OptionError

AFFINE = np.diag([1.0, 2.0, 1.5, 1.0])


def test_smoothing_agrees_with_simpleitk():
    import SimpleITK as sitk

    scan = Scan.of(np.random.default_rng(0).normal(size=(20, 16, 18)), AFFINE)
    image = sitk.GetImageFromArray(scan.voxels[0].transpose(2, 1, 0))
    image.SetSpacing(scan.spacing)
    seen = sitk.DiscreteGaussian(image, variance=9.0, maximumKernelWidth=64, maximumError=0.001)
    ours = voxel_features(scan, sigmas_mm=(3.0,), gradient=False, position=False).reshape(20, 16, 18)
    # a sampled Gaussian and ITK's discrete one differ a little at widths near a voxel
    np.testing.assert_allclose(ours, sitk.GetArrayFromImage(seen).transpose(2, 1, 0), atol=0.01)


def test_gradient_of_a_ramp_is_its_slope():
    x, y, _ = np.indices((9, 9, 9))
    scan = Scan.of(3.0 * x + 4.0 * 2 * y, AFFINE)
    scale = np.ptp(scan.voxels) / np.ptp(3.0 * x + 8.0 * y)
    gradient = voxel_features(scan, sigmas_mm=(0.0,), position=False)[:, 1].reshape(9, 9, 9)
    np.testing.assert_allclose(gradient, 5 * scale, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_features_stay_with_the_voxel_when_axes_are_turned(masked):
    rng = np.random.default_rng(0)
    voxels, mask = rng.normal(size=(6, 7, 8)), rng.random((6, 7, 8)) > (0.3 if masked else -1)
    straight = voxel_features(Scan.of(voxels, AFFINE, mask=mask))
    turned = AFFINE @ np.array([[0, 0, -1, 5], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    back = lambda a: np.flip(a.transpose(1, 2, 0), axis=2)  # noqa: E731
    other = voxel_features(Scan.of(back(voxels), turned, mask=back(mask)))
    at = back(np.cumsum(mask).reshape(mask.shape) - 1)[back(mask)]
    np.testing.assert_allclose(other, straight[at], atol=1e-5)


def test_names_and_columns_agree():
    scan = Scan.of(np.random.default_rng(0).normal(size=(2, 5, 1, 6)))
    for options in ({}, {"gradient": False}, {"position": False, "sigmas_mm": (0, 3)}, {"sigmas_mm": ()}):
        assert voxel_features(scan, **options).shape == (30, len(feature_names(2, **options)))


def test_bad_options():
    with pytest.raises(OptionError, match="found none"):
        feature_names(1, sigmas_mm=(), position=False)
    with pytest.raises(OptionError, match="0 or more"):
        feature_names(1, sigmas_mm=(-1.0,))
