from __future__ import annotations

import pytest

from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import DatasetError, MissingFileError


def test_reads_channels_labels_and_test_images(build):
    folder = build.nnunet()
    for channel in range(2):
        build.volume(folder / f"imagesTs/t_{channel:04d}.nii.gz", build.noise())
    dataset = read_dataset(folder)
    assert [case.name for case in dataset.cases] == ["a", "b", "t"]
    assert [path.name for path in dataset.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert dataset.cases[0].label == folder / "labelsTr/a.nii.gz"
    assert dataset.cases[2].label is None
    assert dataset.channels == ("T1", "T2")
    assert dataset.labels.values == (0, 1, 4)
    assert dataset.name == "data set"


def test_uncompressed_files(build):
    folder = build.nnunet(count=0, channels=1, file_ending=".nii", numTraining=1)
    build.volume(folder / "imagesTr/scan_12_0000.nii", build.noise())
    build.volume(folder / "labelsTr/scan_12.nii", build.labels())
    assert [case.name for case in read_dataset(folder).cases] == ["scan_12"]


def test_cases_that_dataset_json_names(build):
    entry = {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/b_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}
    folder = build.nnunet(dataset={"mine": entry}, numTraining=1)
    assert [(case.name, len(case.images)) for case in read_dataset(folder).cases] == [("mine", 2)]


@pytest.mark.parametrize("path", ["../a.nii.gz", "/etc/hostname"])
def test_named_paths_that_leave_the_folder(build, path: str):
    folder = build.nnunet(dataset={"mine": {"images": [path], "label": "labelsTr/a.nii.gz"}})
    with pytest.raises(DatasetError, match="leaves the data set's folder"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2]}}, "region-based labels are not supported"),
        ({"labels": {"background": 0, "liver": 1, "ignore": 2}}, "ignore label .* not supported"),
        ({"labels": {"background": 0, "liver": "1"}}, "must be a whole number"),
        ({"labels": {"background": 0, "liver": True}}, "must be a whole number"),
        ({"labels": {"background": 0, "liver": 1, "lesion": 1}}, "distinct and rising"),
        ({"labels": {}}, 'expected "labels"'),
        ({"channel_names": {"0": "T1", "2": "T2"}}, 'expected "channel_names"'),
        ({"file_ending": ".png"}, "file_ending '.png' is not read"),
        ({"dataset": {"mine": {"images": []}}}, "needs"),
    ],
)
def test_broken_dataset_json(build, changes: dict[str, object], message: str):
    folder = build.nnunet(**changes)
    with pytest.raises(DatasetError, match=message) as caught:
        read_dataset(folder)
    assert str(caught.value).startswith(f"{folder / 'dataset.json'}: ")


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("imagesTr/a_0001.nii.gz", "imagesTr/a_0001.nii.gz"),
        ("imagesTr/a_0000.nii.gz", "imagesTr/a_0000.nii.gz"),
        ("labelsTr/b.nii.gz", "labelsTr/b.nii.gz"),
    ],
)
def test_files_that_are_not_there(build, gone: str, named: str):
    folder = build.nnunet()
    (folder / gone).unlink()
    with pytest.raises(MissingFileError, match=f"{named}: no such file"):
        read_dataset(folder)


def test_label_map_without_images(build):
    folder = build.nnunet()
    build.volume(folder / "labelsTr/c.nii.gz", build.labels())
    with pytest.raises(MissingFileError, match=r"c\.nii\.gz: label map without images imagesTr/c_0000"):
        read_dataset(folder)


@pytest.mark.parametrize("name", ["a.nii.gz", "a_0002.nii.gz", "c_0000.nii", "a_00.nii.gz"])
def test_file_names_that_do_not_fit(build, name: str):
    folder = build.nnunet()
    build.volume(folder / "imagesTr" / name, build.noise())
    with pytest.raises(
        DatasetError, match=r"does not fit dataset.json, expected NAME_0000.nii.gz to NAME_0001"
    ):
        read_dataset(folder)


@pytest.mark.parametrize("ending", [".nii.gz", ".NII.GZ", ".Nii.Gz"])
def test_upper_case_file_names_and_endings(build, ending: str):
    folder = build.nnunet(file_ending=ending)
    for file in [*(folder / "imagesTr").iterdir(), *(folder / "labelsTr").iterdir()]:
        file.rename(file.with_name(file.name.replace(".nii.gz", ".NII.GZ")))
    cases = read_dataset(folder).cases
    assert [(case.name, case.label) for case in cases] == [
        (name, folder / f"labelsTr/{name}.NII.GZ") for name in "ab"
    ]


def test_another_number_of_cases_is_a_problem(build):
    with pytest.raises(DatasetError, match=r"dataset\.json: numTraining is 3, found 2 training cases"):
        read_dataset(build.nnunet(numTraining=3))


def test_a_file_twice_in_two_spellings(build):
    folder = build.nnunet()
    build.volume(folder / "imagesTr/a_0000.NII.GZ", build.noise())
    with pytest.raises(DatasetError, match="case name a_0000 is also that of"):
        read_dataset(folder)


def test_links_are_followed(build, tmp_path):
    folder = build.nnunet()
    for part in ("imagesTr", "labelsTr"):
        store = (folder / part).rename(tmp_path / part)
        (folder / part).mkdir()
        for file in store.iterdir():
            (folder / part / file.name).symlink_to(file)
    assert [case.name for case in read_dataset(folder).cases] == ["a", "b"]
