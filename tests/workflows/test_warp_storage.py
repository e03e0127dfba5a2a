"""Values, types and dimensions of warped files, under a shift by one voxel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.errors import HeaderWarning
from atlaseg.workflows.warp import Warp


def volume(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


ONE = "Transform: TranslationTransform_double_3_3\nParameters: 1 0 0\nFixedParameters: \n"


CENTRED = np.eye(4)


SMALL = (14, 13, 12)


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    """A folder with ``one.tfm``, which takes points to x - 1 in RAS, so that images move on by one voxel."""
    (tmp_path / "one.tfm").write_text(ONE)
    volume(tmp_path / "reference.nii.gz", np.zeros(SMALL, np.uint8), CENTRED)
    return tmp_path


def shift(folder: Path, name: str, **options) -> nib.Nifti1Image:
    reference = options.pop("reference", folder / "reference.nii.gz")
    out = folder / "moved.nii.gz"
    job = Warp(folder / name, transform=(str(folder / "one.tfm"),), out=out, reference=reference, **options)
    assert job.run() == 0
    return nib.load(out)


@pytest.mark.parametrize("interpolation", ["nearest", "gaussian"])
@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (np.uint8, 200),
        (np.int8, -5),
        (np.uint16, 65535),
        (np.int16, -300),
        (np.uint32, 4294967295),
        (np.int32, 2000000),
        (np.int64, 2**40),
        (np.uint64, 2**40),
        (np.float32, 614454272),
        (np.float64, 2**40 + 1),
    ],
)
def test_label_maps_of_every_type(shifted: Path, kind: type, label: int, interpolation):
    labels = np.zeros(SMALL, kind)
    labels[3:7, 3:8, 3:8], labels[7:11, 3:8, 3:8] = 1, label
    nib.save(nib.Nifti1Image(labels, CENTRED, dtype=kind), shifted / "labels.nii.gz")
    found = shift(shifted, "labels.nii.gz", labels=True, interpolation=interpolation)
    voxels = np.asanyarray(found.dataobj)
    assert voxels.dtype.kind in "iu"
    assert np.array_equal(np.unique(voxels.astype(np.int64)), np.unique(labels.astype(np.int64)))
    expected = np.zeros(SMALL, np.int64)
    expected[1:] = labels[:-1]
    agree = (voxels.astype(np.int64) == expected).mean()
    assert agree == 1 if interpolation == "nearest" else agree > 0.97


@pytest.mark.parametrize("interpolation", [None, "bspline", "sinc", "nearest"])
def test_nan_stays_where_it_is(shifted: Path, interpolation):
    image = np.random.default_rng(0).normal(100, 20, SMALL).astype(np.float32)
    image[5, 6, 7] = np.nan
    volume(shifted / "scan.nii.gz", image, CENTRED)
    found = shift(shifted, "scan.nii.gz", interpolation=interpolation, outside=0.0).get_fdata()
    expected = np.zeros(SMALL)
    expected[1:] = image[:-1]
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    good = ~np.isnan(expected)
    assert np.abs(found - expected)[good].max() < 1e-3


def test_series_keep_their_time(shifted: Path):
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(*SMALL, 3)).astype(np.float32), CENTRED)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4], image.header["toffset"] = 2.5, 0.5
    nib.save(image, shifted / "bold.nii.gz")
    found = shift(shifted, "bold.nii.gz")
    assert found.shape == (*SMALL, 3)
    assert found.header.get_zooms() == (1, 1, 1, 2.5)
    assert found.header.get_xyzt_units()[1] == "sec"
    assert found.header["toffset"] == 0.5
    assert np.allclose(found.get_fdata()[1:], image.get_fdata()[:-1], atol=1e-5)


def test_flat_images_and_references_of_more_dimensions(shifted: Path):
    image = np.random.default_rng(0).normal(size=SMALL).astype(np.float32)
    nib.save(nib.Nifti1Image(image[:, :, 0], CENTRED), shifted / "flat.nii.gz")
    found = shift(shifted, "flat.nii.gz", outside=-7.0).get_fdata()
    assert np.allclose(found[1:, :, 0], image[:-1, :, 0], atol=1e-5)
    assert (found[:, :, 1:] == -7).all()
    volume(shifted / "scan.nii.gz", image, CENTRED)
    volume(shifted / "series.nii.gz", np.zeros((*SMALL, 4), np.float32), CENTRED)
    found = shift(shifted, "scan.nii.gz", reference=shifted / "series.nii.gz")
    assert found.shape == SMALL
    assert np.allclose(found.get_fdata()[1:], image[:-1], atol=1e-5)


def test_assumptions_are_printed(shifted: Path, capsys: pytest.CaptureFixture[str]):
    scan = np.random.default_rng(0).normal(-900, 20, SMALL).astype(np.float32)
    volume(shifted / "ct.nii.gz", scan, CENTRED)
    assert shift(shifted, "ct.nii.gz").get_fdata()[0, 0, 0] == 0
    text = capsys.readouterr().out
    assert "it does not reach 7% of the voxels, which got 0 (--outside); the air of a CT is -1000" in text
    assert shift(shifted, "ct.nii.gz", outside=-1000.0).get_fdata()[0, 0, 0] == -1000
    assert "--outside" not in capsys.readouterr().out
    volume(shifted / "labels.nii.gz", (scan > -900).astype(np.uint8), CENTRED)
    with pytest.warns(
        HeaderWarning, match=r"labels\.nii\.gz: taken for an image, .* only 2 values.* add --labels"
    ):
        shift(shifted, "labels.nii.gz")
