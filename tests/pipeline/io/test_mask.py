"""One rule for masks: what is not 0 is inside."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.errors import DatasetError, GeometryError
from atlaseg.pipeline.io.mask import inside_of, read_mask

SHAPE = (5, 4, 3)
AFFINE = np.diag((1.0, 2.0, 3.0, 1.0))


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def drawn() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE) > 0.5


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (np.uint8, 1),
        (np.uint8, 255),
        (np.int16, -1),
        (np.int8, -128),
        (np.float32, 0.3),
        (np.float64, -1e-40),
        (np.float32, 1e30),
        (np.int32, 2**24 + 1),
    ],
)
def test_every_non_zero_voxel_is_inside(tmp_path: Path, kind: type, value: float) -> None:
    inside = drawn()
    path = save(tmp_path / "m.nii.gz", np.where(inside, value, 0).astype(kind))
    np.testing.assert_array_equal(read_mask(path), inside)


def test_a_mask_with_a_slope_and_one_of_one_slice(tmp_path: Path) -> None:
    inside = drawn()
    image = nib.Nifti1Image(inside.astype(np.uint8), AFFINE)
    image.header.set_slope_inter(2.0, 0.0)
    nib.save(image, tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz"), inside)
    flat = save(tmp_path / "flat.nii.gz", inside[:, :, 0].astype(np.uint8))
    np.testing.assert_array_equal(read_mask(flat), inside[:, :, :1])


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    scan = save(tmp_path / "scan.nii.gz", drawn().astype(np.float32))
    empty = save(tmp_path / "empty.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(DatasetError, match=r"empty.nii.gz: the mask is empty"):
        read_mask(empty)
    broken = save(tmp_path / "nan.nii.gz", np.where(drawn(), np.nan, 0).astype(np.float32))
    with pytest.raises(DatasetError, match=r"nan.nii.gz: the mask holds NaN"):
        read_mask(broken)
    several = save(tmp_path / "several.nii.gz", np.ones((*SHAPE, 2), np.uint8))
    with pytest.raises(GeometryError, match=r"several.nii.gz: a mask must be 3-D, found 2 volumes"):
        read_mask(several)
    elsewhere = save(tmp_path / "elsewhere.nii.gz", np.ones(SHAPE, np.uint8), np.eye(4))
    with pytest.raises(GeometryError, match=r"elsewhere.nii.gz: not on the grid of scan.nii.gz"):
        read_mask(elsewhere, scan)
    assert read_mask(elsewhere).all()


def test_an_array_needs_no_name() -> None:
    with pytest.raises(DatasetError, match=r"^the mask is empty"):
        inside_of(np.zeros(SHAPE))
    np.testing.assert_array_equal(inside_of(np.array([0, True, False])), [False, True, False])
