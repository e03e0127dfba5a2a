from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import DatasetError, LabelError, MissingFileError


def test_label_values_are_found_by_reading(build):
    dataset = read_dataset(build.folders())
    assert dataset.labels.structures == {1: "label 1", 4: "label 4"}
    assert dataset.channels == ("MRI",)
    assert [case.name for case in dataset.labelled] == ["a", "b"]


def test_names_from_labels_json(build):
    folder = build.folders()
    build.json("labels.json", {"liver": 1, "lesion": 4, "never seen": 255})
    assert read_dataset(folder).labels.structures == {1: "liver", 4: "lesion", 255: "never seen"}


def test_names_from_channels_json(build):
    folder = build.folders()
    build.json("channels.json", ["CT"])
    assert read_dataset(folder).channels == ("CT",)


def test_images_without_label_map_are_unlabelled_cases(build):
    folder = build.folders()
    (folder / "labels/b.nii.gz").unlink()
    assert [case.name for case in read_dataset(folder).unlabelled] == ["b"]


def test_channel_files(build):
    folder = build.folders(count=0)
    for name in "ab":
        for channel in range(3):
            build.volume(folder / f"images/{name}_{channel:04d}.nii.gz", build.noise())
        build.volume(folder / f"labels/{name}.nii.gz", build.labels())
    dataset = read_dataset(folder)
    assert [case.name for case in dataset.cases] == ["a", "b"]
    assert dataset.channels == ("channel 0", "channel 1", "channel 2")
    (folder / "images/b_0001.nii.gz").unlink()
    with pytest.raises(MissingFileError, match=r"b_0001\.nii\.gz: no such file"):
        read_dataset(folder)


def test_numbered_scans_are_not_channels(build):
    folder = build.folders(count=0)
    for number in range(3):
        build.volume(folder / f"images/scan_{number:04d}.nii.gz", build.noise())
        build.volume(folder / f"labels/scan_{number:04d}.nii.gz", build.labels())
    assert [case.name for case in read_dataset(folder).cases] == ["scan_0000", "scan_0001", "scan_0002"]


def test_four_dimensional_images_give_the_number_of_channels(build):
    folder = build.folders()
    for name in "ab":
        build.volume(folder / f"images/{name}.nii.gz", build.noise(2))
    assert read_dataset(folder).channels == ("channel 0", "channel 1")


def test_hidden_and_other_files_are_passed_over(build):
    folder = build.folders()
    (folder / "images/._a.nii.gz").write_bytes(b"macOS")
    (folder / "images/notes.txt").write_text("scanned on Monday")
    (folder / "masks").mkdir()
    assert len(read_dataset(folder).cases) == 2


def test_other_formats_are_not_passed_over(build):
    folder = build.folders()
    (folder / "images/c.nrrd").write_bytes(b"NRRD0004")
    with pytest.raises(DatasetError, match=r"c\.nrrd: expected NIfTI .* convert it"):
        read_dataset(folder)


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_names_that_occur_twice(build, kind: str):
    folder = build.folders()
    build.volume(folder / kind / "a.nii", build.labels())
    with pytest.raises(DatasetError, match="case name a is also that of"):
        read_dataset(folder)


def test_label_map_without_image(build):
    folder = build.folders()
    (folder / "images/b.nii.gz").unlink()
    with pytest.raises(MissingFileError, match=r"labels/b\.nii\.gz: label map without an image"):
        read_dataset(folder)


def test_images_in_the_labels_folder_are_noticed(build):
    folder = build.folders()
    voxels = np.arange(2000, dtype=np.int16).reshape(10, 10, 20)
    build.volume(folder / "labels/a.nii.gz", voxels)
    with pytest.raises(LabelError, match="2000 different values, is it an image"):
        read_dataset(folder)


def test_negative_values_are_refused(build):
    folder = build.folders()
    build.volume(folder / "labels/a.nii.gz", build.labels().astype(np.int16) - 1)
    with pytest.raises(LabelError, match=r"a\.nii\.gz: label value -1 is negative"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.json", {"liver": "1"}, "must be a whole number"),
        ("labels.json", [1], "expected a JSON object"),
        ("labels.json", {"liver": 1, "lesion": 1}, "distinct"),
        ("channels.json", {"0": "CT"}, "expected a list of channel names"),
    ],
)
def test_broken_json(build, name: str, content: object, message: str):
    folder = build.folders()
    build.json(name, content)
    with pytest.raises(DatasetError, match=message):
        read_dataset(folder)


@pytest.mark.real
def test_mouse_brains(real_data: Path):
    dataset = read_dataset(real_data / "mouse_brain_fvb")
    assert len(dataset.labelled) == 5
    # 1-20 right, 21-40 left; midline structures have one value only
    assert dataset.labels.values == tuple(sorted({*range(41)} - {22, 30, 37}))
