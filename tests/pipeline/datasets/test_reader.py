from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atlaseg.pipeline.datasets import list_dataset, read_dataset
from atlaseg.pipeline.errors import DatasetError, MissingFileError


def test_no_such_folder(tmp_path: Path):
    with pytest.raises(MissingFileError, match="no such folder"):
        read_dataset(tmp_path / "nothing")


@pytest.mark.parametrize("names", [[], ["a.nii.gz", "b.nii.gz"]])
def test_unknown_layout_says_what_was_expected_and_found(tmp_path: Path, names: list[str]):
    for name in names:
        (tmp_path / name).touch()
    found = ", ".join(names) or "an empty folder"
    with pytest.raises(
        DatasetError,
        match=rf"expected a dataset.json .* images/ and labels/ with equal file names; found {found}",
    ):
        read_dataset(tmp_path)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\xff", "null"])
def test_dataset_json_that_is_not_json(tmp_path: Path, text: str):
    (tmp_path / "dataset.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"dataset\.json: (not readable as JSON|expected a JSON object)"):
        read_dataset(tmp_path)


def test_no_labelled_case(build):
    folder = build.decathlon(count=1, training=[], test=["imagesTr/a.nii.gz"])
    with pytest.raises(DatasetError, match="no case with a label map"):
        read_dataset(folder)


def test_an_executor_changes_nothing(build):
    folder = build.folders()
    with ThreadPoolExecutor(2) as executor:
        assert read_dataset(folder, executor=executor) == read_dataset(folder)


def test_a_collecting_report_sees_every_problem(build):
    folder = build.decathlon(count=3)
    (folder / "imagesTr/a.nii.gz").unlink()
    (folder / "labelsTr/c.nii.gz").unlink()
    problems: list[tuple[type, str]] = []
    listing = list_dataset(folder, lambda error, file: problems.append((type(error), file.name)))
    assert problems == [(MissingFileError, "a.nii.gz"), (MissingFileError, "c.nii.gz")]
    assert [(case.name, case.label is None) for case in listing.cases] == [("b", False), ("c", True)]
