from __future__ import annotations

import json
from pathlib import Path

import pytest

from atlaseg.pipeline.datasets import list_dataset, raise_at_once, read_dataset
from atlaseg.pipeline.errors import DatasetError, MissingFileError


def test_reads_cases_labels_and_channels(build):
    folder = build.decathlon(channels=2, test=["./imagesTs/t.nii.gz"])
    build.volume(folder / "imagesTs/t.nii.gz", build.noise(2))
    dataset = read_dataset(folder)
    assert [case.name for case in dataset.cases] == ["a", "b", "t"]
    assert [case.name for case in dataset.unlabelled] == ["t"]
    assert dataset.channels == ("T1", "T2")
    assert dataset.labels.structures == {1: "liver", 4: "lesion"}
    assert dataset.cases[0].images == (folder / "imagesTr/a.nii.gz",)
    assert dataset.name == "toy"


def test_entries_with_a_list_of_images_are_channels(build):
    folder = build.decathlon(
        training=[
            {"image": ["imagesTr/a.nii.gz", "imagesTr/b.nii.gz"], "label": "labelsTr/a.nii.gz"},
        ]
    )
    assert [len(case.images) for case in read_dataset(folder).cases] == [2]


def test_cases_listed_without_their_channel_suffix(build):
    folder = build.decathlon()
    for name in "ab":
        (folder / f"imagesTr/{name}.nii.gz").rename(folder / f"imagesTr/{name}_0000.nii.gz")
    dataset = read_dataset(folder)
    assert [(case.name, case.images[0].name) for case in dataset.cases] == [
        ("a", "a_0000.nii.gz"),
        ("b", "b_0000.nii.gz"),
    ]


def test_macos_files_are_passed_over(build):
    folder = build.decathlon()
    content = json.loads((folder / "dataset.json").read_text())
    content["training"].append({"image": "imagesTr/._a.nii.gz", "label": "labelsTr/._a.nii.gz"})
    build.json("dataset.json", content)
    assert len(read_dataset(folder).cases) == 2


@pytest.mark.parametrize("path", ["../outside.nii.gz", "imagesTr/../../outside.nii.gz", "{outside}"])
@pytest.mark.parametrize("key", ["image", "label"])
def test_paths_that_leave_the_folder_are_refused(build, tmp_path: Path, path: str, key: str):
    outside = build.volume(tmp_path / "outside.nii.gz", build.noise())
    path = path.format(outside=outside)
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"} | {key: path}
    folder = build.decathlon(training=[entry])
    with pytest.raises(DatasetError, match=r"dataset\.json: path .* leaves the data set's folder"):
        read_dataset(folder)


@pytest.mark.parametrize("linked", ["folders", "files"])
def test_links_are_followed(build, tmp_path: Path, linked: str):
    folder = build.decathlon()
    for part in ("imagesTr", "labelsTr"):
        store = (folder / part).rename(tmp_path / part)
        if linked == "folders":
            (folder / part).symlink_to(store)
        else:
            (folder / part).mkdir()
            for file in store.iterdir():
                (folder / part / file.name).symlink_to(file)
    assert [case.images for case in read_dataset(folder).cases] == [
        (folder / f"imagesTr/{name}.nii.gz",) for name in "ab"
    ]


def test_dots_after_a_link_stay_in_the_folder(build, tmp_path: Path):
    folder = build.decathlon(training=[{"image": "deep/../imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}])
    build.volume(tmp_path / "imagesTr/a.nii.gz", build.noise())  # where the system's own reading would lead
    (tmp_path / "below").mkdir()
    (folder / "deep").symlink_to(tmp_path / "below")
    assert read_dataset(folder).cases[0].images == (folder / "imagesTr/a.nii.gz",)


@pytest.mark.parametrize("stated", [3, 0, "two", True, None])
def test_another_number_of_cases_is_a_problem(build, stated: object):
    with pytest.raises(
        DatasetError, match=rf"dataset\.json: numTraining is {stated!r}, found 2 training cases"
    ):
        read_dataset(build.decathlon(numTraining=stated))


def test_the_right_number_of_cases(build):
    assert len(read_dataset(build.decathlon(numTraining=2)).cases) == 2


def test_unlisted_volumes_are_reported(build):
    folder = build.decathlon()
    build.volume(folder / "imagesTr/extra.nii.gz", build.noise())
    build.volume(folder / "labelsTr/old/a.nii.gz", build.labels())
    assert list_dataset(folder, raise_at_once).left_out == {
        folder / "imagesTr": "not listed in dataset.json and not used: extra.nii.gz",
        folder / "labelsTr": "scans in folders below it are not used: old",
    }


def test_channel_digits_of_test_images_are_those_of_the_others(build):
    folder = build.decathlon(
        training=[{"image": "imagesTr/a_0000.nii.gz", "label": "labelsTr/a.nii.gz"}],
        test=["imagesTr/b_0000.nii.gz"],
    )
    for name in "ab":
        (folder / f"imagesTr/{name}.nii.gz").rename(folder / f"imagesTr/{name}_0000.nii.gz")
    assert [case.name for case in read_dataset(folder).cases] == ["a", "b"]


def test_a_link_to_the_whole_folder_is_fine(build, tmp_path: Path):
    (tmp_path / "elsewhere").symlink_to(build.decathlon())
    assert len(read_dataset(tmp_path / "elsewhere").cases) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, 'expected "labels"'),
        ({"labels": ["background", "liver"]}, 'expected "labels"'),
        ({"labels": {"0": "background", "one": "liver"}}, "labels: invalid literal"),
        ({"labels": {"1": "liver", "2": "liver"}}, "must be distinct"),
        ({"modality": {"1": "T1"}}, 'expected "modality"'),
        ({"modality": {}}, "names no channel"),
        ({"training": {"image": "a"}}, "training must be a list"),
        ({"training": [{"image": "imagesTr/a.nii.gz"}]}, 'without a "label"'),
        ({"training": [{"label": "labelsTr/a.nii.gz"}]}, "a case in training must be"),
        ({"training": [{"image": "imagesTr/a.nii.gz", "label": 3}]}, "must be a path"),
        ({"training": [{"image": "a\0b.nii.gz", "label": "c"}]}, "is not a file name"),
    ],
)
def test_broken_dataset_json(build, changes: dict[str, object], message: str):
    folder = build.decathlon(**changes)
    with pytest.raises(DatasetError, match=message) as caught:
        read_dataset(folder)
    assert str(caught.value).startswith(f"{folder / 'dataset.json'}: ")
    assert "\n" not in str(caught.value)


def test_names_that_occur_twice(build):
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    folder = build.decathlon(training=[entry, entry])
    with pytest.raises(DatasetError, match=r"case name a is also that of"):
        read_dataset(folder)


@pytest.mark.parametrize("name", ["imagesTr/a.nii.gz", "labelsTr/b.nii.gz"])
def test_files_that_are_not_there(build, name: str):
    folder = build.decathlon()
    (folder / name).unlink()
    with pytest.raises(MissingFileError, match=rf"{name}: no such file; case \w needs it"):
        read_dataset(folder)


@pytest.mark.real
def test_hippocampus(real_data: Path):
    dataset = read_dataset(real_data / "Task04_Hippocampus")
    assert len(dataset.labelled) == 200
    assert dataset.labels.names == ("background", "Anterior", "Posterior")
    assert dataset.channels == ("MRI",)
