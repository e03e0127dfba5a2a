"""Layouts: each recognises its own folders and no others, and an installed package adds one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from atlaseg.pipeline.datasets import LAYOUTS, is_dataset, list_dataset, raise_at_once, read_dataset
from atlaseg.pipeline.errors import DatasetError

MODULE = """
from atlaseg.pipeline.datasets import CaseList, Layout, LayoutRow, Listing

ROW = LayoutRow("subjects", "a folder sub-NAME for each scan, with t1.nii.gz and labels.nii.gz", "my_layout:LAYOUT")

def recognises(folder):
    return any(folder.glob("sub-*/t1.nii.gz"))

def list_cases(folder, report):
    cases = CaseList(report)
    for image in sorted(folder.glob("sub-*/t1.nii.gz")):
        label = image.with_name("labels.nii.gz")
        cases.add(image.parent.name, [image], label if label.is_file() else None)
    return Listing(folder, "subjects", "data set", cases.sorted(), None, ("MRI",), channels_named_by=None)

LAYOUT = Layout(recognises, list_cases)
"""


@pytest.mark.parametrize(
    ("name", "method"), [("nnunet-raw", "nnunet"), ("decathlon", "decathlon"), ("folders", "folders")]
)
def test_each_recognises_its_own_folder(build, name: str, method: str) -> None:
    folder = getattr(build, method)()
    recognised = [row.name for row in LAYOUTS.rows() if row.load().recognises(folder)]
    assert recognised == [name]
    assert is_dataset(folder)


def test_a_folder_of_scans_is_no_data_set(build, tmp_path: Path) -> None:
    build.volume(tmp_path / "scans" / "images" / "a.nii.gz", np.zeros((4, 4, 4)))
    assert not is_dataset(tmp_path / "scans")
    assert not is_dataset(tmp_path / "nothing")
    assert not is_dataset(tmp_path / "scans" / "images" / "a.nii.gz")
    with pytest.raises(
        DatasetError, match=r"not a data set; expected a dataset.json with channel_names .*, or folders"
    ):
        list_dataset(tmp_path / "scans", raise_at_once)


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", json.dumps({"labels": {}})])
def test_a_damaged_description_is_meant_to_be_a_data_set(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    assert is_dataset(tmp_path)
    with pytest.raises(DatasetError):
        list_dataset(tmp_path, raise_at_once)


def test_a_layout_of_an_installed_package(installed, build, tmp_path: Path) -> None:
    installed.add("my-layouts", {"atlaseg.layouts": {"subjects": "my_layout:ROW"}}, my_layout=MODULE)
    folder = tmp_path / "study"
    for name in ("one", "two"):
        build.volume(folder / f"sub-{name}" / "t1.nii.gz", np.ones((4, 4, 4), np.float32))
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1:3] = 7
    build.volume(folder / "sub-one" / "labels.nii.gz", labels)
    assert is_dataset(folder)
    dataset = read_dataset(folder)
    assert [case.name for case in dataset.cases] == ["sub-one", "sub-two"]
    assert dataset.labels.values == (0, 7)
    assert [case.name for case in dataset.labelled] == ["sub-one"]
