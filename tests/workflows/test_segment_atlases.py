"""``atlaseg segment`` with atlases: runs, bare folders of labelled scans, reports, bad scans, interruptions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.pipeline.errors import AtlasegError, DatasetError, MissingFileError, OptionError
from atlaseg.pipeline.io.volume import read_image, read_voxels
from atlaseg.pipeline.system.worker_processes import worker_pool
from atlaseg.workflows.cli import main
from atlaseg.workflows.methods.atlases.atlas_labelling import AtlasLabeller, open_atlases
from atlaseg.workflows.segment import Segment
from atlaseg.workflows.train import Train

QUICK: dict[str, Any] = {"transform": "rigid", "fusion": "majority", "workers": 1}


@pytest.fixture(scope="module")
def run(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("atlases") / "run"
    Train.of(shapes_folder, out, method="majority", transform="rigid").run()
    return out


@pytest.fixture
def scan(shapes_folder: Path, tmp_path: Path) -> Path:
    """A copy of a scan, on a grid of its own."""
    image = nib.load(shapes_folder / "imagesTr" / "shapes_000.nii.gz")
    affine = image.affine.copy()
    affine[:3, 3] += (1 / 3, 0.2, -0.7)
    path = tmp_path / "scans" / "patient.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)
    return path


def labels(path: Path) -> Any:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.thorough
def test_a_run(run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert Segment.of((run, scan.parent), out, workers=1, probabilities=True).run() == 0
    said = capsys.readouterr().out
    assert "[1/1] patient: " in said
    assert "of 4 atlases fused" in said
    assert {path.name for path in out.iterdir()} == {
        *("patient.nii.gz", "patient_probabilities.nii.gz", "patient_atlases.json")
    }
    written = nib.load(out / "patient.nii.gz")
    assert np.array_equal(written.affine, nib.load(scan).affine)
    assert written.get_data_dtype() == np.uint8
    expected = MultiAtlasSegmenter.load(run).segment(read_image(scan), probabilities=True)
    np.testing.assert_array_equal(labels(out / "patient.nii.gz"), expected.label_map)
    chances = labels(out / "patient_probabilities.nii.gz")
    assert expected.probabilities is not None
    np.testing.assert_array_equal(np.moveaxis(chances, -1, 0), expected.probabilities)


@pytest.mark.thorough
def test_the_report(run: Path, scan: Path, tmp_path: Path) -> None:
    Segment.of((run, scan), tmp_path / "out", workers=1).run()
    content = json.loads((tmp_path / "out" / "patient_atlases.json").read_text())
    assert content["fusion"] == "majority"
    assert content["propagation"]["transform"] == "rigid"
    assert [atlas["name"] for atlas in content["atlases"]] == list(
        MultiAtlasSegmenter.load(run).atlases.names
    )
    for atlas in content["atlases"]:
        assert atlas["used"] == (atlas["reason"] is None)
        assert -1 <= atlas["quality"]["local_correlation"] <= 1
        assert atlas["seconds"] > 0


@pytest.mark.thorough
def test_processes_give_the_same(run: Path, scan: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        Segment.of((run, scan), tmp_path / f"out{workers}", workers=workers).run()
    one, two = (labels(tmp_path / f"out{workers}" / "patient.nii.gz") for workers in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.thorough
def test_a_run_in_another_way(run: Path, scan: Path, tmp_path: Path) -> None:
    Segment.of((run, scan), tmp_path / "out", fusion="staple", transform="affine", keep=3, workers=1).run()
    content = json.loads((tmp_path / "out" / "patient_atlases.json").read_text())
    assert (content["fusion"], content["propagation"]["transform"]) == ("staple", "affine")
    assert json.loads((run / "configs" / "atlases.json").read_text())["fusion"] == "majority"


@pytest.mark.thorough
def test_validation_cases(run: Path, tmp_path: Path) -> None:
    cases = json.loads((run / "configs" / "cases.json").read_text())["validation"]
    assert Segment.of((run,), tmp_path / "out", validation=True, workers=1).run() == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == [
        f"{case['name']}.nii.gz" for case in cases
    ]


@pytest.mark.thorough
def test_a_folder_of_labelled_scans(shapes_folder: Path, scan: Path, tmp_path: Path) -> None:
    assert Segment.of((shapes_folder, scan), tmp_path / "out", **QUICK).run() == 0
    content = json.loads((tmp_path / "out" / "patient_atlases.json").read_text())
    assert len(content["atlases"]) == 5


@pytest.mark.thorough
def test_a_scan_among_the_atlases_is_labelled_by_the_others(
    shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shapes_folder, data)
    assert Segment.of((data, data / "imagesTr" / "shapes_002.nii.gz"), tmp_path / "out", **QUICK).run() == 0
    assert "4 of 5 atlases fused, left out shapes_002: it is the scan itself" in capsys.readouterr().out
    atlases = MultiAtlasSegmenter.load(_bundle(data, tmp_path))
    expected = atlases.segment_case_without("shapes_002").label_map
    np.testing.assert_array_equal(labels(tmp_path / "out" / "shapes_002.nii.gz"), expected)


@pytest.mark.thorough
def test_atlases_on_one_grid_are_read_once(
    shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = []
    for number in range(2):  # on the grid of the atlases; the second has the voxels of one of them
        source = nib.load(shapes_folder / "imagesTr" / "shapes_002.nii.gz")
        voxels = np.asarray(source.dataobj).astype(np.float32) + (1 - number)
        scans.append(tmp_path / f"copy_{number}.nii.gz")
        nib.save(nib.Nifti1Image(voxels, source.affine), scans[-1])
    read: list[Path] = []

    def reading(path: Path, *more: Any) -> np.ndarray:
        if not more:  # to be compared; with its header, it is read to be registered
            read.append(path)
        return read_voxels(path, *more)

    monkeypatch.setattr("atlaseg.pipeline.io.volume.read_voxels", reading)
    assert Segment.of((shapes_folder, *scans), tmp_path / "out", **QUICK).run() == 0
    said = capsys.readouterr().out
    assert "copy_0: 5 of 5 atlases fused" in said
    assert "copy_1: 4 of 5 atlases fused, left out shapes_002: it is the scan itself" in said
    compared = [path for path in read if path.parent.name == "imagesTr"]
    assert len(compared) == len(set(compared)) >= 3


def _bundle(data: Path, tmp_path: Path) -> Path:
    Train.of(data, tmp_path / "whole", method="majority", transform="rigid", folds=1).run()
    return tmp_path / "whole"


@pytest.mark.thorough
def test_a_bad_scan_among_good_ones(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scan.parent / "broken.nii.gz").write_bytes(b"not a scan")
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.float32), np.eye(4)), scan.parent / "even.nii.gz")
    far = np.eye(4)
    far[:3, 3] = 1e4
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9, 2), np.float32), far), scan.parent / "two.nii.gz")
    words = ["segment", str(run), str(scan.parent), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "1 of 4 scans labelled" in captured.out
    failures = [line for line in captured.err.splitlines() if line.startswith("FAILED")]
    assert [line.split()[1] for line in failures] == ["broken:", "even:", "two:"]
    assert "Traceback" not in captured.err
    assert (tmp_path / "out" / "patient.nii.gz").is_file()


@pytest.mark.thorough
def test_masks(run: Path, scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    mask = np.zeros(image.shape, np.uint8)
    mask[2:22, 2:22, 2:22] = 1
    folder = tmp_path / "masks"
    folder.mkdir()
    nib.save(nib.Nifti1Image(mask, image.affine), folder / "patient.nii.gz")
    assert Segment.of((run, scan), tmp_path / "a", masks=folder, workers=1).run() == 0
    assert Segment.of((run, scan), tmp_path / "b", masks=folder / "patient.nii.gz", workers=1).run() == 0
    np.testing.assert_array_equal(*(labels(tmp_path / out / "patient.nii.gz") for out in "ab"))


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["empty", "missing", "elsewhere"])
def test_bad_masks(
    run: Path, scan: Path, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    image = nib.load(scan)
    if how != "missing":
        affine = image.affine if how == "empty" else np.eye(4)
        voxels = np.full(image.shape, how != "empty", np.uint8)
        nib.save(nib.Nifti1Image(voxels, affine), folder / "patient.nii.gz")
    assert Segment.of((run, scan), tmp_path / "out", masks=folder, workers=1).run() == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("FAILED")]
    said = {"empty": "the mask is empty", "missing": "no mask for this scan", "elsewhere": "not on the grid"}
    assert said[how] in line


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("which", "options", "message"),
    [
        ("run", {"tta": True}, "--tta: for networks.* only, and not for .*run; leave it out"),
        ("run", {"device": "cpu"}, "--device: for networks.* only"),
        ("run", {"workers": 0}, "--workers must be at least 1"),
        ("run", {"threads": 0}, "--threads must be at least 1"),
        ("run", {"masks": Path("nowhere")}, "no such file or folder"),
        ("run", {"fusion": "magic"}, "no fusion rule 'magic'"),
        ("run", {"transform": "syn", "engine": "elastix"}, "elastix has no syn stage"),
        ("run", {"validation": True}, "name that run alone"),
        ("data", {"validation": True}, "keeps none back"),
        ("network", {"fusion": "joint", "keep": 2}, "--fusion, --keep: for atlases.* only"),
        ("network", {"workers": 2, "work": Path("w")}, "--workers, --work: for atlases.* only"),
    ],
)
def test_refuses_options(
    run: Path,
    tiny_run: Path,
    shapes_folder: Path,
    scan: Path,
    tmp_path: Path,
    which: str,
    options: dict[str, Any],
    message: str,
) -> None:
    model = {"run": run, "network": tiny_run, "data": shapes_folder}[which]
    with pytest.raises(OptionError, match=message) as caught:
        Segment.of((model, scan), tmp_path / "out", **options).run()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.thorough
def test_mixtures_and_missing_scans(
    run: Path, tiny_run: Path, shapes_folder: Path, scan: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    for paths, error, message in (
        ((tiny_run, run, scan), OptionError, "cannot be joined"),
        ((run, tiny_run, scan), OptionError, "cannot be joined"),
        ((run, other, scan), OptionError, "they cannot be joined"),
        ((run,), OptionError, "give the scans"),
        ((shapes_folder,), OptionError, "give the scans"),
        ((scan, shapes_folder), OptionError, "is a run of atlaseg train"),
        ((run, scan.with_name("none.nii.gz")), MissingFileError, "no such file or folder"),
        ((run, shapes_folder), DatasetError, r"no \.nii"),
    ):
        with pytest.raises(error, match=message) as caught:
            Segment.of(paths, tmp_path / "out").run()
        assert isinstance(caught.value, AtlasegError)
        assert "\n" not in str(caught.value)


@pytest.mark.thorough
def test_registrations_are_kept_where_named(run: Path, scan: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    Segment.of((run, scan), tmp_path / "a", workers=1, work=work).run()
    kept = {path: path.stat().st_mtime_ns for path in work.rglob("*.h5")}
    assert kept
    Segment.of((run, scan), tmp_path / "b", workers=1, work=work, fusion="staple").run()
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.h5")} == kept


@pytest.mark.slow
def test_killed_and_started_again(run: Path, scan: Path, tmp_path: Path) -> None:
    shutil.copy(scan, scan.with_name("second.nii.gz"))
    out = tmp_path / "out"
    words = ["segment", str(run), str(scan.parent), "--out", str(out), "--transform", "bspline"]
    command = [sys.executable, "-m", "atlaseg.workflows.cli", *words, "--workers", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    end = time.monotonic() + 120
    while not list(out.glob(".registrations/patient/*.json")) and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    seals = list(out.glob(".registrations/patient/*.json"))
    finished = {seal.stem: seal.with_suffix(".h5").stat().st_mtime_ns for seal in seals}
    assert finished
    assert not (out / "second.nii.gz").exists()
    # a scan that fails keeps the registrations of the others
    broken = scan.with_name("third.nii.gz")
    broken.write_bytes(b"")
    assert main([*words, "--workers", "1"]) == 1
    again = {path.stem: path.stat().st_mtime_ns for path in out.glob(".registrations/patient/*.h5")}
    assert finished.items() <= again.items()
    broken.unlink()
    assert main([*words, "--workers", "1"]) == 0
    assert not (out / ".registrations").exists()


def test_workers_are_clean() -> None:
    """What a worker runs imports neither torch nor MONAI, which would take seconds in each."""
    heavy = (
        "__import__('atlaseg.atlases.propagation.carrying') and "
        "[n for n in ('torch', 'monai') if n in __import__('sys').modules]"
    )
    with worker_pool(1) as pool:
        assert pool.submit(eval, heavy).result() == []


def wait_until_broken(pool: Executor) -> None:
    """What is submitted while Python 3.11 finds out is never answered, because it takes no lock there."""
    with suppress(BrokenProcessPool):
        while True:
            pool.submit(os.getpid)
            time.sleep(0.05)


@pytest.mark.thorough
def test_a_worker_that_dies_costs_one_scan(run: Path, scan: Path, tmp_path: Path) -> None:
    job = Segment.of((run,), tmp_path / "out", workers=2)
    with AtlasLabeller(open_atlases(run, job), job) as labeller:
        pool = labeller._workers()
        assert pool is not None
        os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
        wait_until_broken(pool)
        with pytest.raises(RuntimeError):
            labeller.label("patient", (scan,), "first")
        assert labeller.label("patient", (scan,), "second").label_map.any()


@pytest.mark.thorough
def test_choices_of_the_registration_are_noted(run: Path, scan: Path, tmp_path: Path) -> None:
    words = [
        "segment",
        str(run),
        str(scan),
        "--out",
        str(tmp_path),
        "--linear",
        "affine",
        "--different-modality",
    ]
    assert main(words) == 0
    noted = json.loads((tmp_path / f"{scan.name.removesuffix('.nii.gz')}_atlases.json").read_text())
    assert noted["propagation"]["linear"] == "affine"
    assert noted["propagation"]["same_modality"] is False
