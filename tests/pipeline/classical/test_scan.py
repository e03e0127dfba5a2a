"""What is checked of a scan before a classical method sees it, and the common scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from atlaseg.pipeline.classical import Scan
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, shape or (6, 7, 8))


def test_common_scale_inside_the_mask() -> None:
    image = noise()
    mask = np.zeros(image.shape, dtype=bool)
    mask[2:5] = True
    scan = Scan.of(image * 1000 - 3, mask=mask)
    np.testing.assert_allclose(np.percentile(scan.voxels[0, mask], (1, 99)), (0, 1), atol=1e-5)
    np.testing.assert_allclose(scan.voxels, Scan.of(image, mask=mask).voxels, atol=1e-4)
    assert scan.voxels.dtype == np.float32
    assert scan.voxels.shape == (1, 6, 7, 8)


def test_channels_by_themselves() -> None:
    scan = Scan.of(np.stack([noise(), 1e6 * noise() + 5]))
    np.testing.assert_allclose(scan.voxels[0], scan.voxels[1], atol=1e-4)


def test_tensor_brings_its_affine() -> None:
    affine = np.diag((-1.0, 2, 3, 1))
    image = MetaTensor(torch.from_numpy(noise(1, 4, 5, 6)), affine=torch.from_numpy(affine))
    scan = Scan.of(image)
    np.testing.assert_array_equal(scan.affine, affine)
    assert scan.spacing == (1, 2, 3)
    assert scan.mask.all()


def test_mostly_even_scans_are_no_constants() -> None:
    image = np.zeros((10, 10, 10))
    image[0, 0, 0] = 7
    assert Scan.of(image).voxels.max() == 1


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (np.full((3, 3, 3), 5.0), {}, DatasetError, "constant .every voxel is 5"),
        (np.stack([noise(), np.ones((6, 7, 8))]), {}, DatasetError, "channel 1 of the scan is constant"),
        (np.where(noise() > 100, np.nan, 1), {}, DatasetError, "NaN or infinite"),
        (noise(), {"mask": np.zeros((6, 7, 8))}, DatasetError, "mask is empty"),
        (noise(), {"mask": np.ones((6, 7, 9))}, GeometryError, "mask has shape"),
        (noise(), {"prior": np.ones((2, 6, 7, 9))}, GeometryError, "prior has shape"),
        (noise(), {"affine": np.zeros((4, 4))}, GeometryError, "invertible"),
        (noise(5, 5), {}, GeometryError, "expected a 3-D scan"),
    ],
)
def test_refusals_are_one_line(
    image: np.ndarray, options: dict[str, Any], error: type[AtlasegError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        Scan.of(image, **options)
    assert "\n" not in str(caught.value)


def test_zero_of_the_file_is_known() -> None:
    """A gain multiplies distances from it, wherever the common scale begins."""
    image = np.stack([noise(), 5 * noise() + 1000])
    dark = image.copy()
    dark[:, 0, 0, 0] = 0
    scan = Scan.of(dark)
    np.testing.assert_allclose(scan.voxels[:, 0, 0, 0], scan.zero, rtol=1e-5)
    assert max(scan.zero) < -0.3
