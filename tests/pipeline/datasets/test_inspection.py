from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.datasets.inspection import Problem, inspect_dataset
from atlaseg.pipeline.errors import DatasetError, MissingFileError


def only(folder: Path, **options) -> Problem:
    """The one problem of a data set; its message is one line and does not repeat the file's name."""
    problems = inspect_dataset(folder, **options).problems
    assert len(problems) == 1, problems
    assert "\n" not in problems[0].message
    assert str(problems[0].file) not in problems[0].message
    return problems[0]


def shifted(x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 3] = x, y, z
    return affine


def test_a_good_data_set(build):
    folder = build.decathlon(count=3, test=["imagesTs/t.nii.gz"])
    build.volume(folder / "imagesTs/t.nii.gz", build.noise())
    found = inspect_dataset(folder)
    assert found.problems == ()
    assert (found.name, found.channels, found.labels.values) == ("toy", ("T1",), (0, 1, 4))
    assert [(case.name, case.labelled) for case in found.cases] == [
        ("a", True),
        ("b", True),
        ("c", True),
        ("t", False),
    ]
    case = found.cases[0]
    assert (case.shape, case.spacing, case.orientation) == ((6, 7, 8), (1, 1, 1), "RAS")
    assert (case.channels, case.dtype, case.obliquity) == (1, "float32", 0)


def test_volumes_in_millilitres(build):
    folder = build.folders(count=1)
    affine = np.diag([0.5, 2.0, -3.0, 1.0])
    build.volume(folder / "images/a.nii.gz", build.noise(), affine)
    build.volume(folder / "labels/a.nii.gz", build.labels(), affine)
    assert inspect_dataset(folder).cases[0].volumes == pytest.approx({1: 36 * 3 / 1000, 4: 12 * 3 / 1000})


@pytest.mark.parametrize("layout", ["decathlon", "nnunet", "folders"])
def test_layouts_agree(build, layout: str):
    found = inspect_dataset(getattr(build, layout)())
    assert found.problems == ()
    assert [case.volumes for case in found.cases] == [pytest.approx({1: 0.036, 4: 0.012})] * 2


def test_executors_change_nothing(build):
    folder = build.nnunet()
    (folder / "imagesTr/a_0001.nii.gz").write_bytes(b"broken")
    alone = inspect_dataset(folder)
    assert alone.errors
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(1, get_context("spawn")) as processes:
        assert inspect_dataset(folder, executor=threads) == alone
        assert inspect_dataset(folder, executor=processes) == alone


def test_progress_is_reported(build):
    told: list[tuple[float, float]] = []
    inspect_dataset(build.folders(), progress=lambda done, total, what: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_truncated_file(build, kind: str, kept: float):
    folder = build.folders()
    build.json("labels.json", {"liver": 1, "lesion": 4})
    build.json("channels.json", ["T1"])
    path = folder / kind / "a.nii.gz"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    problem = only(folder)
    assert (problem.kind, problem.file, problem.case) == ("unreadable", path, "a")
    assert problem.severity == "error"


def test_unreadable_first_image_is_reported_once(build):
    folder = build.folders()
    (folder / "images/a.nii.gz").write_bytes(b"not NIfTI")
    assert only(folder).kind == "unreadable"


@pytest.mark.parametrize(("value", "bad"), [(np.nan, 3), (np.inf, 1), (-np.inf, 2)])
def test_voxels_that_are_not_finite(build, value: float, bad: int):
    folder = build.decathlon()
    voxels = build.noise()
    voxels.flat[:bad] = value
    build.volume(folder / "imagesTr/b.nii.gz", voxels)
    problem = only(folder)
    assert problem.kind == "not-finite"
    assert problem.message.startswith(f"{bad} of 336 voxels are NaN or infinite")


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (shifted(z=2.5), "2.5 mm apart"),
        (np.diag([1.0, 1, 2, 1]), "voxel size 1 x 1 x 2 instead of 1 x 1 x 1 mm"),
        (
            np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "turned by 36.9 degrees",
        ),
    ],
)
def test_label_on_another_grid(build, affine: np.ndarray, said: str):
    folder = build.folders()
    build.volume(folder / "labels/a.nii.gz", build.labels(), affine)
    problem = only(folder)
    assert (problem.kind, problem.file) == ("grid", folder / "labels/a.nii.gz")
    assert problem.message.startswith("not on the grid of its image: ")
    assert said in problem.message


def test_label_of_another_shape(build):
    folder = build.folders()
    build.volume(folder / "labels/a.nii.gz", build.labels()[:, :, 1:])
    assert "shape 6x7x7 instead of 6x7x8" in only(folder).message


def test_channels_on_different_grids(build):
    folder = build.nnunet()
    build.volume(folder / "imagesTr/b_0001.nii.gz", build.noise(), shifted(x=1))
    problem = only(folder)
    assert (problem.kind, problem.file.name) == ("grid", "b_0001.nii.gz")
    assert "not on the grid of channel b_0000.nii.gz" in problem.message


def test_unknown_label_values(build):
    folder = build.decathlon()
    label = build.labels().astype(np.int16)
    label[0, 0, :3] = 9
    build.volume(folder / "labelsTr/a.nii.gz", label)
    problem = only(folder)
    assert problem.kind == "unknown-label"
    assert problem.message == "unknown label values 9 in 3 voxels; known are 0, 1, 4"


def test_negative_label_values(build):
    folder = build.decathlon()
    build.volume(folder / "labelsTr/a.nii.gz", -build.labels().astype(np.int16))
    problem = only(folder)
    assert problem.kind == "label-values"
    assert "label value -4 is negative" in problem.message


def test_empty_label_map(build):
    folder = build.decathlon()
    build.volume(folder / "labelsTr/a.nii.gz", np.zeros(build.shape, np.uint8))
    assert only(folder).kind == "empty-label"
    assert only(folder).severity == "error"
    assert only(folder, tolerated=["empty-label"]).severity == "warning"


@pytest.mark.parametrize("layout", ["decathlon", "nnunet", "folders"])
def test_missing_label_map(build, layout: str):
    folder = getattr(build, layout)()
    path = folder / ("labels/b.nii.gz" if layout == "folders" else "labelsTr/b.nii.gz")
    path.unlink()
    problem = only(folder)
    assert problem.kind == ("missing-label" if layout == "folders" else "missing-file")
    assert (problem.file, problem.severity) == (path, "error")


def test_unlabelled_cases_can_be_tolerated(build):
    folder = build.folders()
    (folder / "labels/b.nii.gz").unlink()
    assert only(folder, tolerated=["missing-label"]).severity == "warning"


def test_missing_image(build):
    folder = build.nnunet()
    (folder / "imagesTr/b_0001.nii.gz").unlink()
    assert only(folder).kind == "missing-file"


def test_label_values_that_are_not_whole(build):
    folder = build.decathlon()
    build.volume(folder / "labelsTr/a.nii.gz", build.labels() * np.float32(0.35))
    problem = only(folder)
    assert problem.kind == "label-values"
    assert problem.message == "label values must be whole numbers, found 1.4; was it interpolated?"


def test_whole_float_labels_are_fine(build):
    folder = build.decathlon()
    build.volume(folder / "labelsTr/a.nii.gz", build.labels().astype(np.float32))
    assert inspect_dataset(folder).problems == ()


def test_four_dimensional_image(build):
    folder = build.decathlon()
    build.volume(folder / "imagesTr/b.nii.gz", build.noise(3))
    problem = only(folder)
    assert problem.kind == "dimensions"
    assert problem.message.startswith("expected a 3-D image, found 4-D (6 x 7 x 8 x 3)")


def test_another_number_of_channels(build):
    folder = build.decathlon(channels=2)
    build.volume(folder / "imagesTr/b.nii.gz", build.noise())
    assert only(folder).message == "expected 2 channels as in the data set, found 1 (6 x 7 x 8)"


def test_four_dimensional_label_map(build):
    folder = build.decathlon()
    build.volume(folder / "labelsTr/b.nii.gz", np.stack([build.labels()] * 2, -1))
    problem = only(folder)
    assert problem.kind == "dimensions"
    assert problem.message == "expected a 3-D label map, found 4-D (6 x 7 x 8 x 2)"


@pytest.mark.parametrize(("mm", "severity"), [(3.0, "error"), (0.2, "warning"), (0.001, None)])
def test_sform_and_qform_that_disagree(build, mm: float, severity: str | None):
    folder = build.decathlon(count=1)
    path = folder / "imagesTr/a.nii.gz"
    image = nib.load(path)
    image.set_qform(shifted(y=mm), 1)
    nib.save(nib.Nifti1Image(image.get_fdata(), None, image.header), path)
    if severity is None:
        assert inspect_dataset(folder).problems == ()
    else:
        problem = only(folder)
        assert (problem.kind, problem.severity) == ("sform-qform", severity)
        assert f"disagree by up to {mm:g} mm" in problem.message


def test_path_that_leaves_the_folder(build):
    folder = build.decathlon()
    content = json.loads((folder / "dataset.json").read_text())
    content["training"].append({"image": "../x.nii.gz", "label": "labelsTr/a.nii.gz"})
    build.json("dataset.json", content)
    problem = only(folder)
    assert (problem.kind, problem.file) == ("layout", folder / "dataset.json")
    assert "leaves the data set's folder" in problem.message


def test_duplicate_names(build):
    folder = build.folders()
    build.volume(folder / "images/a.nii", build.noise())
    problem = only(folder)
    assert problem.kind == "layout"
    assert "names must be unique" in problem.message


def test_constant_image(build):
    folder = build.nnunet()
    build.volume(folder / "imagesTr/a_0001.nii.gz", np.full(build.shape, 7, np.int16))
    problem = only(folder)
    assert problem.kind == "constant"
    assert problem.message == "all voxels have the value 7; the scan is empty"


def test_structure_without_labels(build):
    folder = build.nnunet(labels={"background": 0, "liver": 1, "lesion": 4, "kidney": 6})
    problem = only(folder)
    assert (problem.kind, problem.severity) == ("unused-label", "warning")
    assert problem.message == "kidney (6) is in no label map"


def test_singular_affine(build):
    folder = build.decathlon()
    header = nib.Nifti1Header()
    header.set_sform(np.diag([1.0, 1, 0, 1]), 1)
    nib.save(nib.Nifti1Image(build.noise(), None, header), folder / "imagesTr/a.nii.gz")
    assert only(folder).kind == "geometry"


def test_no_labelled_case(build):
    folder = build.decathlon(count=1, training=[], test=["imagesTr/a.nii.gz"])
    assert only(folder).message == "no case with a label map; add at least one"


def test_all_problems_together_errors_first(build):
    folder = build.decathlon(count=5, labels={"0": "background", "1": "liver", "4": "lesion", "7": "never"})
    (folder / "imagesTr/a.nii.gz").unlink()
    build.volume(folder / "labelsTr/b.nii.gz", build.labels() + np.uint8(1))
    build.volume(folder / "imagesTr/c.nii.gz", build.noise() * np.nan)
    (folder / "labelsTr/d.nii.gz").write_bytes(b"")
    found = inspect_dataset(folder)
    assert [problem.kind for problem in found.errors] == [
        "missing-file",
        "not-finite",
        "unknown-label",
        "unreadable",
    ]
    assert [problem.kind for problem in found.warnings] == ["unused-label"]


def test_nothing_to_inspect(tmp_path: Path):
    with pytest.raises(DatasetError, match="not a data set"):
        inspect_dataset(tmp_path)
    with pytest.raises(MissingFileError):
        inspect_dataset(tmp_path / "nothing")


@pytest.mark.thorough
@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "cases", "structures"), [("Task04_Hippocampus", 200, 2), ("mouse_brain_fvb", 5, 37)]
)
def test_real_scans_have_no_problems(real_data: Path, name: str, cases: int, structures: int):
    found = inspect_dataset(real_data / name)
    assert found.problems == ()
    assert len(found.cases) == cases
    assert len(found.labels.structures) == structures
    assert all(len(case.volumes) == structures for case in found.cases)
    assert {case.orientation for case in found.cases} == {"RAS"}
