from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.errors import DatasetError, MissingFileError, OptionError
from atlaseg.workflows.check import Check


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    output = capsys.readouterr()
    assert output.err == ""
    return [line.rstrip() for line in output.out.splitlines()]


def test_table_of_a_good_data_set(build, capsys):
    folder = build.decathlon(count=3)
    build.volume(folder / "imagesTr/c.nii.gz", build.noise(), np.diag([-1.0, 1, 1, 1]))
    build.volume(folder / "labelsTr/c.nii.gz", build.labels(), np.diag([-1.0, 1, 1, 1]))
    assert Check(folder).run() == 0
    printed = lines(capsys)
    rows = {line.split()[0]: line.split() for line in printed if line.split()}
    assert rows["cases"] == ["cases", "3", "(3", "labelled,", "0", "unlabelled)"]
    assert rows["shape"] == ["shape", "6", "x", "7", "x", "8", "voxels"]
    assert rows["orientation"] == ["orientation", "RAS", "(2),", "LAS", "(1)"]
    assert rows["1"] == ["1", "liver", "3", "0.0360", "0.0360", "0.0360"]
    assert rows["4"] == ["4", "lesion", "3", "0.0120", "0.0120", "0.0120"]
    assert printed[-1] == "no problems found"


def test_every_problem_is_a_line_with_its_file(build, capsys):
    folder = build.decathlon(count=3)
    (folder / "imagesTr/a.nii.gz").unlink()
    build.volume(folder / "labelsTr/b.nii.gz", build.labels() + np.uint8(1))
    (folder / "labelsTr/c.nii.gz").write_bytes(b"")
    assert Check(folder).run() == 2
    printed = lines(capsys)
    problems = [line for line in printed if line.startswith(("error", "warning"))]
    assert problems[0] == "error imagesTr/a.nii.gz: no such file; case a needs it"
    assert problems[1].startswith("error labelsTr/b.nii.gz: unknown label values 2, 5 in ")
    assert problems[2].startswith("error labelsTr/c.nii.gz: not a readable NIfTI file")
    assert printed[-1].startswith("3 errors, ")


def four_dimensional(build, folder: Path) -> None:
    build.volume(folder / "images/a.nii.gz", build.noise(2))


def not_finite(build, folder: Path) -> None:
    build.volume(folder / "images/a.nii.gz", build.noise() * np.inf)


def constant(build, folder: Path) -> None:
    build.volume(folder / "images/a.nii.gz", np.ones(build.shape, np.uint8))


def truncated_image(build, folder: Path) -> None:
    path = folder / "images/a.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])


def truncated_label_map(build, folder: Path) -> None:
    path = build.volume(folder / "labels/a.nii", build.labels())
    (folder / "labels/a.nii.gz").unlink()
    path.write_bytes(path.read_bytes()[:-1])


def other_grid(build, folder: Path) -> None:
    build.volume(folder / "labels/a.nii.gz", build.labels(), np.diag([1.0, 1.0, 1.25, 1.0]))


def unknown_value(build, folder: Path) -> None:
    build.volume(folder / "labels/a.nii.gz", build.labels() * np.uint8(4))


def empty(build, folder: Path) -> None:
    build.volume(folder / "labels/a.nii.gz", np.zeros(build.shape, np.uint8))


def missing(build, folder: Path) -> None:
    (folder / "labels/a.nii.gz").unlink()


def not_whole(build, folder: Path) -> None:
    build.volume(folder / "labels/a.nii.gz", build.labels() * np.float32(0.5))


def four_dimensional_label_map(build, folder: Path) -> None:
    build.volume(folder / "labels/a.nii.gz", np.stack([build.labels()] * 3, -1))


def disagreeing_affines(build, folder: Path) -> None:
    image = nib.load(folder / "images/a.nii.gz")
    image.set_qform(np.diag([1.0, -1.0, 1.0, 1.0]), 1)
    nib.save(image, folder / "images/a.nii.gz")


def duplicate(build, folder: Path) -> None:
    build.volume(folder / "images/a.nii", build.noise())


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (four_dimensional, "error images/a.nii.gz: expected a 3-D image, found 4-D"),
        (not_finite, "error images/a.nii.gz: 336 of 336 voxels are NaN or infinite"),
        (constant, "error images/a.nii.gz: all voxels have the value 1"),
        (truncated_image, "error images/a.nii.gz: the voxels cannot be read, is the file truncated"),
        (truncated_label_map, "error labels/a.nii: the voxels cannot be read, is the file truncated"),
        (other_grid, "error labels/a.nii.gz: not on the grid of its image: voxels up to 1.75 mm apart"),
        (unknown_value, "error labels/a.nii.gz: unknown label values 16 in 12 voxels; known are 0, 1, 4"),
        (empty, "error labels/a.nii.gz: empty: no voxel is labelled"),
        (missing, "error labels/a.nii.gz: no label map for image a"),
        (not_whole, "error labels/a.nii.gz: label values must be whole numbers, found 0.5"),
        (four_dimensional_label_map, "error labels/a.nii.gz: expected a 3-D label map, found 4-D"),
        (disagreeing_affines, "error images/a.nii.gz: sform and qform disagree by up to 12 mm"),
        (duplicate, "error images/a.nii.gz: case name a is also that of"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_problem_is_one_line_and_exit_code_2(build, capsys, spoil, line: str):
    folder = build.folders(count=3)
    build.json("channels.json", ["MRI"])
    build.json("labels.json", {"liver": 1, "lesion": 4})
    spoil(build, folder)
    assert Check(folder).run() == 2
    problems = [text for text in lines(capsys) if text.startswith(("error", "warning"))]
    assert len(problems) == 1
    assert problems[0].startswith(line)


def test_warnings_alone_do_not_stop_anybody(build, capsys):
    folder = build.nnunet(labels={"background": 0, "liver": 1, "lesion": 4, "kidney": 6})
    assert Check(folder).run() == 0
    assert lines(capsys)[-1] == "0 errors, 1 warning: the data set can be used"


@pytest.mark.parametrize("option", ["allow_empty", "allow_unlabelled"])
def test_what_the_user_allows_is_a_warning(build, capsys, option: str):
    folder = build.folders()
    if option == "allow_empty":
        build.volume(folder / "labels/a.nii.gz", np.zeros(build.shape, np.uint8))
    else:
        (folder / "labels/a.nii.gz").unlink()
    assert Check(folder).run() == 2
    assert f"--{option.replace('_', '-')}" in capsys.readouterr().out
    assert Check(folder, **{option: True}).run() == 0


def test_json_is_all_that_is_printed(build, capsys):
    folder = build.decathlon()
    (folder / "imagesTr/a.nii.gz").unlink()
    assert Check(folder, json=True).run() == 2
    output = capsys.readouterr()
    assert output.err == ""
    found = json.loads(output.out)
    assert found["usable"] is False
    assert found["labels"] == {"background": 0, "liver": 1, "lesion": 4}
    assert found["cases"][0]["volumes_ml"] == pytest.approx({"liver": 0.036, "lesion": 0.012})
    assert found["problems"] == [
        {
            "severity": "error",
            "kind": "missing-file",
            "case": None,
            "file": "imagesTr/a.nii.gz",
            "message": "no such file; case a needs it",
        }
    ]


def test_each_case_on_request(build, capsys):
    folder = build.folders()
    (folder / "images/b.nii.gz").write_bytes(b"broken")
    assert Check(folder, cases=True).run() == 2
    printed = [line.split() for line in lines(capsys)]
    assert ["a", "6", "x", "7", "x", "8", "1", "x", "1", "x", "1", "RAS", "1", "0.0480"] in printed
    assert any(line[:2] == ["b", "unreadable"] for line in printed)


def test_names_are_text_and_never_markup(build, capsys):
    folder = build.folders()
    build.json("labels.json", {"[red]liver[/]": 1, "[/oops]": 4})
    assert Check(folder, cases=True).run() == 0
    assert "[red]liver[/]" in capsys.readouterr().out


def test_a_data_set_without_a_readable_image(build, capsys):
    folder = build.folders(count=1)
    (folder / "images/a.nii.gz").write_bytes(b"broken")
    assert Check(folder).run() == 2
    assert "1 error" in lines(capsys)[-1]


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (Check(Path("nothing")), MissingFileError),
        (Check(Path("nothing"), workers=-1), OptionError),
        (Check(Path(__file__).parent), DatasetError),
    ],
)
def test_nothing_to_check(job: Check, error: type[Exception], capsys):
    with pytest.raises(error) as caught:
        job.run()
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


@pytest.mark.thorough
@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("Task04_Hippocampus", "31-43 x 40-59 x 24-47"),
        ("mouse_brain_fvb", "0.15 x 0.15 x 0.15 mm"),
    ],
)
def test_real_scans(real_data: Path, capsys, name: str, row: str):
    assert Check(real_data / name).run() == 0
    output = capsys.readouterr().out
    assert row in output
    assert output.rstrip().endswith("no problems found")
