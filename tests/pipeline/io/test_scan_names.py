"""Tests of what a scan is called and which files are its."""

from pathlib import Path

import pytest

from atlaseg.pipeline.io.scan_names import is_volume, suffix_of, volume_name


@pytest.mark.parametrize(
    ("file", "name", "suffix"),
    [
        ("a.nii", "a", ".nii"),
        ("a.nii.gz", "a", ".nii.gz"),
        ("A.NII.GZ", "A", ".NII.GZ"),
        ("a.Nii.Gz", "a", ".Nii.Gz"),
        ("patient.01.nii.gz", "patient.01", ".nii.gz"),
        ("größe 1.nii", "größe 1", ".nii"),
    ],
)
def test_suffix_is_taken_off_in_any_case(file: str, name: str, suffix: str) -> None:
    assert (volume_name(Path("x") / file), suffix_of(Path(file))) == (name, suffix)
    assert is_volume(Path(file))


@pytest.mark.parametrize("file", ["a.mha", "a.gz", "a.nii.txt", "._a.nii.gz", ".nii.gz", "nii"])
def test_other_and_hidden_files_are_no_volumes(file: str) -> None:
    assert not is_volume(Path(file))
