"""Hounsfield units distinguished from other intensities, and the modality assumed for channels."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.datasets.modality import (
    Hounsfield,
    air_for_filling,
    assume_channels,
    hounsfield_units,
    modality_of,
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("CT",), "CT"),
        (("ct_venous", "CTA"), "CT"),
        (("T1", "FLAIR"), "MRI"),
        (("fraction", "ADC"), "MRI"),
        (("PET", "CT"), "mixed"),
    ],
)
def test_modality_from_names(names: tuple[str, ...], expected: str) -> None:
    assert modality_of(names) == expected


def body(seed: int = 0) -> np.ndarray:
    """A made CT of ``(40, 40, 24)`` voxels: air around fat around soft tissue with bone and a lung, int16."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(40) - 19.5, np.arange(40) - 19.5, indexing="ij")
    radius = np.repeat(np.hypot(x, y)[..., None], 24, axis=2)
    mean = np.select([radius < 4, radius < 11, radius < 15], [500.0, 45.0, -100.0], -1000.0)
    mean[12:17, 18:23, :8] = -820
    return (mean + rng.normal(0, 12, mean.shape)).round().astype(np.int16)


CT_LIKE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda ct: ct,
    "filled with -1024": lambda ct: np.pad(ct, 12, constant_values=-1024),
    "filled with -3024": lambda ct: np.pad(ct, 12, constant_values=-3024),
    "filled with -32768": lambda ct: np.pad(ct, 12, constant_values=-32768),
    "filled with 0": lambda ct: np.pad(ct, 30),
    "masked by 0": lambda ct: np.where(ct > -300, ct, 0),
    "interpolated": lambda ct: ct + np.random.default_rng(1).uniform(-0.5, 0.5, ct.shape),
    "cropped to the body": lambda ct: ct[10:30, 10:30, 9:],
    "clipped to a window": lambda ct: np.clip(ct, -160, 240),
    "with metal": lambda ct: np.where(np.arange(ct.size).reshape(ct.shape) % 500 == 0, 20000, ct),
}


@pytest.mark.parametrize("name", CT_LIKE)
def test_ct_is_recognised(name: str) -> None:
    assert hounsfield_units(CT_LIKE[name](body())) == "yes"


def noise(scale: float, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(2).normal(mean, scale, (32, 32, 32))


OTHERS: dict[str, tuple[Hounsfield, np.ndarray]] = {
    "magnitude": ("no", np.abs(noise(300, 500)).round()),
    "mean 0 and standard deviation 1": ("no", noise(1)),
    "scaled CT": ("no", (body() + 1000) / 2000),
    "CT with 1024 added": ("no", np.maximum(body() + 1024, 0)),
    "overshoots of interpolation": ("no", np.r_[noise(30, 300).ravel(), np.full(100, -40.0)]),
    "phase in 12 bits": ("unclear", np.random.default_rng(3).integers(-4096, 4095, (32, 32, 32))),
    "phase in degrees": ("unclear", np.random.default_rng(3).integers(-180, 180, (32, 32, 32))),
    "real part": ("unclear", noise(100).round()),
    "large real part": ("unclear", noise(400).round()),
    "field map in Hz": ("unclear", noise(80, 20)),
    "standardised, times 100, whole": ("unclear", noise(100).round()),
    "16 bits": ("unclear", np.random.default_rng(3).integers(-32768, 32767, (32, 32, 32))),
    "constant": ("no", np.zeros((4, 4, 4))),
    "not a number": ("no", np.full((4, 4, 4), np.nan)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_intensities_are_not_taken_for_ct(name: str) -> None:
    expected, voxels = OTHERS[name]
    assert hounsfield_units(voxels) == expected


@pytest.mark.thorough
@pytest.mark.real
def test_real_scans(real_data: Path) -> None:
    import SimpleITK as sitk

    ct = np.asarray(nib.load(real_data / "ct_3mm" / "ct.nii.gz").dataobj)
    series = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(real_data / "ct_dicom"))
    thorax = sitk.GetArrayFromImage(sitk.ReadImage(series))
    assert [hounsfield_units(scan) for scan in (ct, thorax, np.clip(thorax, -160, 240))] == ["yes"] * 3
    images = ["Task04_Hippocampus/imagesTr", "mouse_brain_fvb/images", "left_atrium/images"]
    others = [path for folder in images for path in sorted((real_data / folder).glob("*.nii.gz"))[:5]]
    assert len(others) == 15
    assert {hounsfield_units(np.asarray(nib.load(path).dataobj)) for path in others} == {"no"}


def test_unnamed_channels_follow_intensities() -> None:
    assert assume_channels(("MRI",), None, [("yes",), ("yes",), ("unclear",)]).channels == ("CT",)
    both = assume_channels(("channel 0", "channel 1"), None, [("yes", "yes")])
    assert (both.channels, both.modality) == (("CT 0", "CT 1"), "CT")
    mri = assume_channels(("MRI",), None, [("no",), ("no",), ("unclear",)])
    assert (mri.channels, mri.modality, mri.doubts) == (("MRI",), "MRI", ())
    mixed = assume_channels(("channel 0", "channel 1"), None, [("no", "yes")])
    assert (mixed.modality, len(mixed.doubts)) == ("MRI", 1)
    assert mixed.doubts[0].startswith(
        "channel channel 1: intensities are like Hounsfield units in 1 of 1 scan;"
    )
    (doubt,) = assume_channels(("MRI",), None, [("unclear",)]).doubts
    assert "taken for MRI, though intensities are negative in part in 1 of 1 scan" in doubt
    assert assume_channels(("T1",), "channels.json", [("unclear",)]).doubts == ()
    few = assume_channels(("MRI",), None, [("no",), ("yes",)])
    assert (few.modality, len(few.doubts)) == ("MRI", 1)


def test_names_are_kept_and_doubted() -> None:
    named = assume_channels(("T1",), "dataset.json", [("yes",), ("no",)])
    assert (named.channels, named.modality) == (("T1",), "MRI")
    assert "like Hounsfield units in 1 of 2 scans" in named.doubts[0]
    assert "in dataset.json or by --channels" in named.doubts[0]
    ct = assume_channels(("CT",), "--channels", [("no",), ("no",), ("yes",)])
    assert (ct.modality, len(ct.doubts)) == ("CT", 1)
    assert "unlike Hounsfield units in 2 of 3 scans" in ct.doubts[0]
    assert assume_channels(("CT",), "channels.json", [("unclear",), ("yes",)]).doubts == ()
    assert assume_channels(("CT",), "channels.json", []).doubts == ()


def test_filling_below_air_becomes_air_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(0)
    ct = rng.integers(-1000, 1500, (10, 10, 10)).astype(np.int16)
    for filling in (-3024, -2048, -32768):
        filled = ct.copy()
        filled[:3] = filling
        found = air_for_filling(filled)
        np.testing.assert_array_equal(found[3:], ct[3:])
        assert (found[:3] == ct[3:].min()).all()
        assert (filled[:3] == filling).all()
    for other in (
        ct,
        ct - 2000,
        rng.normal(0, 3000, (10, 10, 10)),
        np.array([-np.inf, 1, 2]),
        np.array([np.nan, 1]),
    ):
        np.testing.assert_array_equal(air_for_filling(other), other)
