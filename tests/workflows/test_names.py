"""Names from the first command to the last: data set, run, labels, scores."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.workflows.cli import main

ODD = "Daten säd  @x %y $z #1 'q', r"


def write(folder: Path, names: dict[str, str], volumes: int = 1) -> None:
    """Plain folders: image file and label file of each case; a bright box is the structure."""
    for seed, (image, label) in enumerate(names.items()):
        labels = np.zeros((20, 18, 16), np.uint8)
        labels[4:14, 5:14, 3:12] = 1
        voxels = np.random.default_rng(seed).normal(100, 10, labels.shape) + 200 * labels
        scan = (voxels if volumes == 1 else np.stack([voxels] * volumes, -1)).astype(np.float32)
        for part, file, data in (("images", image, scan), ("labels", label, labels)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.eye(4)), folder / part / file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "names", "volumes", "out"),
    [
        (
            ODD,
            {f"{n}.nii.gz": f"{n}.nii.gz" for n in ("größe 1", "名前", "a@b#c", "100%$x")},
            1,
            f"run {ODD}",
        ),
        ("patients", {f"p_{i:04d}.nii.gz": f"p_{i:04d}.nii.gz" for i in range(4)}, 2, "run"),
        ("nnunet", {f"c{i}_0000.nii.gz": f"c{i}.nii.gz" for i in range(4)}, 1, "run"),
        ("digits", {f"c{i}_0000.nii.gz": f"c{i}_0000.nii.gz" for i in range(4)}, 1, "run"),
    ],
    ids=["odd", "numbered", "nnU-Net", "digits in label maps"],
)
def test_results_are_found_under_the_names_of_the_label_maps(
    tmp_path: Path,
    tiny: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    data: str,
    names: dict[str, str],
    volumes: int,
    out: str,
) -> None:
    folder, run = tmp_path / data, tmp_path / out
    write(folder, names, volumes)
    assert main(["check", str(folder)]) == 0
    options = ["--folds", "2", "--epochs", "1", "--tracking", "none", "--device", "cpu"]
    for _ in range(2):  # the same command again finds its run
        assert main(["train", str(folder), "--out", str(run), *options, "--override", *tiny]) == 0
    labels = str(folder / "labels")
    assert main(["segment", str(run), str(folder / "images"), "--out", str(tmp_path / "all")]) == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(names.values())
    assert main(["evaluate", str(tmp_path / "all"), labels]) == 0
    assert main(["segment", str(run), "--validation", "--out", str(tmp_path / "some")]) == 0
    assert main(["evaluate", str(tmp_path / "some"), labels, "--only-predicted"]) == 0
    image, label = next(iter(names.items()))
    assert main(["segment", str(run), str(folder / "images" / image), "--out", str(tmp_path / "one")]) == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == [label]
    capsys.readouterr()


@pytest.mark.parametrize("name", ["50% wall", "a@b", "$x", "_x"])
def test_structures_that_no_config_can_hold_are_found_by_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write(tmp_path, {"a.nii.gz": "a.nii.gz", "b.nii.gz": "b.nii.gz"})
    (tmp_path / "labels.json").write_text(f'{{"{name}": 1}}')
    assert main(["check", str(tmp_path)]) == 2
    assert f"channel or structure name '{name}'" in capsys.readouterr().out
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "run"), "--epochs", "1"]) == 2
    assert not (tmp_path / "run").exists()


def test_a_scan_of_another_format_makes_exit_code_1(
    tiny_run: Path, shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.nii.gz").symlink_to(shapes_folder / "imagesTr" / "shapes_000.nii.gz")
    (tmp_path / "scans" / "b.mha").write_bytes(b"ObjectType = Image")
    (tmp_path / "scans" / "notes.txt").touch()
    assert main(["segment", str(tiny_run), str(tmp_path / "scans"), "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 scans labelled" in captured.out
    assert "FAILED b.mha: expected NIfTI" in captured.err
    assert "left out, not NIfTI: notes.txt" in captured.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.nii.gz"]
