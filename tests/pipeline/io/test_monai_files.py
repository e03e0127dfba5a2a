from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from atlaseg.pipeline.errors import GeometryError, UnreadableFileError
from atlaseg.pipeline.io.monai_files import OneGridd, SaveLabelMapd, VolumeReader, scans_of


def tensor(shape: tuple[int, ...], affine: np.ndarray, name: str) -> MetaTensor:
    meta = {"filename_or_obj": name}
    return MetaTensor(torch.zeros(1, *shape), affine=torch.from_numpy(affine.copy()), meta=meta)


@pytest.mark.thorough
def test_no_other_reader_reads_what_this_one_refuses(tmp_path: Path) -> None:
    """MONAI goes on to its own readers where ``read`` fails; ITK would read this file."""
    import SimpleITK as sitk

    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkFloat32), str(path))
    assert LoadImage("ITKReader")(path).shape == (4, 5, 6)
    with pytest.raises(UnreadableFileError, match=r"scan\.nrrd"):
        LoadImage(VolumeReader())(path)


def test_labels_keep_all_their_digits(build, tmp_path: Path) -> None:
    values = np.array([0, 2**24 + 1, 2**31 + 1, 2**40 + 1]).reshape(1, 2, 2)
    nib.save(nib.Nifti1Image(values, np.eye(4), dtype=np.int64), tmp_path / "a.nii.gz")
    found = LoadImage(VolumeReader(labels=True), dtype=torch.int64, ensure_channel_first=True)(
        tmp_path / "a.nii.gz"
    )
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found[0].numpy(), values)
    SaveLabelMapd("pred", tmp_path / "out", "int64")({"pred": found})
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "out" / "a.nii.gz").dataobj), values)


def test_a_label_map_within_rounding_takes_the_grid_of_its_scan() -> None:
    """At 45 degrees rounding decides which axis is the closest; image and label must not be turned differently."""
    from monai.transforms import Orientationd
    from scipy.spatial.transform import Rotation

    def turned(degrees: float) -> np.ndarray:
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
        return affine

    case = {
        "image": tensor((6, 6, 3), turned(45 + 1e-5), "scan"),
        "label": tensor((6, 6, 3), turned(45 - 1e-5), "label"),
    }
    turning = Orientationd(keys=["image", "label"], axcodes="RAS", labels=None)
    before = turning(dict(case))
    assert not np.allclose(
        before["image"].affine, before["label"].affine, atol=1e-3
    )  # the fault, without the transform
    after = turning(OneGridd(keys="label")(case))
    np.testing.assert_array_equal(after["image"].affine, after["label"].affine)


def test_another_grid_is_refused_with_both_names() -> None:
    moved = np.eye(4)
    moved[0, 3] = 1
    case = {
        "image": tensor((4, 4, 4), np.eye(4), "in/scan.nii"),
        "label": tensor((4, 4, 4), moved, "in/label.nii"),
    }
    with pytest.raises(
        GeometryError, match=r"in/label\.nii: not on the grid of scan\.nii \(voxels up to 1 mm apart"
    ):
        OneGridd(keys=["label", "prior"], allow_missing_keys=True)(case)


def test_scans_are_found_as_segment_finds_them(
    build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tmp_path / "cases.json"
    cases.write_text(
        '{"training": [{"name": "p_0007", "image": ["images/p_0007.nii.gz"]}], "validation": []}'
    )
    for name in ("p_0000.nii.gz", "p_0001.nii.gz", "q.NII"):
        build.volume(tmp_path / "scans" / name, build.noise())
    (tmp_path / "scans" / "notes.txt").write_text("")
    by_name = {
        entry["name"]: [Path(path).name for path in entry["image"]]
        for entry in scans_of(tmp_path / "scans", 1, cases)
    }
    assert by_name == {"p_0000": ["p_0000.nii.gz"], "p_0001": ["p_0001.nii.gz"], "q": ["q.NII"]}
    assert "left out, not NIfTI: notes.txt" in capsys.readouterr().err
    cases.unlink()  # two files of two channels, where no case tells
    (tmp_path / "scans" / "q.NII").unlink()
    (two,) = scans_of(tmp_path / "scans", 2, cases)
    assert (two["name"], len(two["image"])) == ("p", 2)
    (tmp_path / "scans" / "p_0001.nii.gz").unlink()
    with pytest.raises(SystemExit, match=r"p_0001\.nii\.gz: this channel of scan p is missing"):
        scans_of(tmp_path / "scans", 2, cases)


def test_refusals_end_a_bundle_that_monai_runs_alone(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"none\.nii: no such file"):
        VolumeReader(stop=True).get_data([tmp_path / "none.nii"])
