"""Adding one of each: a package of one file and one entry point for each, used by the commands without another change.

The package is ``examples/adding``, whose files ``docs/how-to/add-a-method.md`` shows. Here it lies in a temporary
folder, with the metadata that pip would write, and every command runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "adding"
PROJECT = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
NAMES = [name for group in PROJECT["entry-points"].values() for name in group]
#: The fixed scan's structure lies so many voxels from that of the moving one.
SHIFT = (3, -2, 1)

Run = Callable[..., str]


def install(folder: Path) -> Path:
    """The package and its metadata in a folder, as pip installs them."""
    shutil.copytree(EXAMPLE / "atlaseg_example", folder / "atlaseg_example")
    metadata = folder / f"atlaseg_example-{PROJECT['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n"
    )
    (metadata / "entry_points.txt").write_text(
        "\n".join(
            f"[{group}]\n" + "\n".join(f"{name} = {target}" for name, target in named.items()) + "\n"
            for group, named in PROJECT["entry-points"].items()
        )
    )
    return folder


def write_subjects(folder: Path) -> Path:
    """Five scans in the layout that the package adds: a bright box of label 3 in noise, a little elsewhere in each."""
    shifts = [(0, 0, 0), SHIFT, (1, 1, 0), (0, 1, 1), (-1, 0, 1)]
    for number, shift in enumerate(shifts):
        labels = np.zeros((16, 16, 16), np.uint8)
        labels[tuple(slice(5 + s, 11 + s) for s in shift)] = 3
        noise = np.random.default_rng(number).normal(0, 1, labels.shape)
        subject = folder / f"sub-{number}"
        subject.mkdir(parents=True)
        nib.save(
            nib.Nifti1Image((noise + 100 + 50 * labels).astype(np.float32), np.eye(4)), subject / "t1.nii.gz"
        )
        nib.save(nib.Nifti1Image(labels, np.eye(4)), subject / "labels.nii.gz")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_subjects(tmp_path_factory.mktemp("data") / "study")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("packages") / "site")


@pytest.fixture
def run(packages: Path, tmp_path: Path) -> Run:
    """Runs a command in an empty folder; returns what it prints."""
    desk = tmp_path / "desk"
    desk.mkdir()

    def command(*words: str | Path, fails: int = 0, installed: bool = True) -> str:
        found = [str(packages)] if installed else []
        search = os.pathsep.join([*found, *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-P", "-m", "atlaseg", *map(str, words)],
            cwd=desk,
            env={**os.environ, "PYTHONPATH": search, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    return command


def scan(data: Path, number: int) -> Path:
    return data / f"sub-{number}" / "t1.nii.gz"


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.thorough
def test_a_layout_and_a_command(run: Run, data: Path) -> None:
    found = json.loads(run("check", data, "--json"))
    assert found["layout"] == "subjects"
    assert found["usable"]
    assert [problem for problem in found["problems"] if problem["severity"] == "error"] == []
    assert run("count-labels", data) == "5 labelled cases\n"
    assert "count-labels" in run("--help")


@pytest.mark.thorough
def test_every_addition_is_listed(run: Run) -> None:
    listed = re.findall(r"^  (\S+) .*\(atlaseg-example 1\.0\)$", run("methods"), re.MULTILINE)
    assert {*NAMES, "atlas-one-level", "atlas-intensity-bins"} - {"count-labels"} == set(listed)
    assert "package: atlaseg-example 1.0" in run("methods", "usual-label")


@pytest.mark.slow
def test_an_engine(run: Run, data: Path, tmp_path: Path) -> None:
    pair = tmp_path / "pair"
    run(
        "register", scan(data, 0), scan(data, 1), "--out", pair, "--transform", "rigid", "--engine", "centres"
    )
    run("warp", data / "sub-1" / "labels.nii.gz", "--labels", "--transform", *pair.glob("transform.*"),
        "--reference", scan(data, 0), "--out", tmp_path / "warped.nii.gz")  # fmt: skip
    assert np.array_equal(labels_of(tmp_path / "warped.nii.gz"), labels_of(data / "sub-0" / "labels.nii.gz"))


@pytest.mark.slow
def test_a_metric(run: Run, data: Path, tmp_path: Path) -> None:
    run(
        "evaluate",
        data / "sub-1" / "labels.nii.gz",
        data / "sub-0" / "labels.nii.gz",
        "--out",
        tmp_path / "s.csv",
    )
    (row,) = pd.read_csv(tmp_path / "s.csv").to_dict("records")
    assert row["centre_distance_mm"] == pytest.approx(np.linalg.norm(SHIFT))


@pytest.mark.slow
def test_a_classical_method_and_a_whole_method(run: Run, data: Path, tmp_path: Path) -> None:
    for method, more in (("intensity-bins", ("--option", "bins=6")), ("usual-label", ())):
        model, out = tmp_path / method, tmp_path / f"{method}-labels"
        run("train", data, "--out", model, "--method", method, "--folds", "5", *more)
        run("segment", model, scan(data, 0), "--out", out)
        (found,) = out.glob("*.nii.gz")
        truth = labels_of(data / "sub-0" / "labels.nii.gz") == 3
        overlap = 2 * (truth & (labels_of(found) == 3)).sum() / (truth.sum() + (labels_of(found) == 3).sum())
        assert overlap > 0.6, method


@pytest.mark.slow
def test_a_network_and_a_loss(run: Run, data: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    model = tmp_path / "model"
    run("train", data, "--out", model, "--method", "one-level", "--epochs", "1", "--tracking", "none",
        "--device", "cpu", "--override", "training.loss=brier", *tiny)  # fmt: skip
    metadata = json.loads((model / "configs" / "metadata.json").read_text())
    assert metadata["required_packages_version"]["atlaseg-example"] == "1.0"
    assert metadata["optional_packages_version"] == {"atlaseg-example": "1.0"}
    run("segment", model, scan(data, 0), "--out", tmp_path / "labels", "--device", "cpu")
    assert len(list((tmp_path / "labels").glob("*.nii.gz"))) == 1
    said = run("segment", model, scan(data, 0), "--out", tmp_path / "none", fails=2, installed=False)
    assert "the run names the package atlaseg-example==1.0, which is not installed: install it" in said


@pytest.mark.slow
def test_a_fusion_rule_by_registrations_of_an_engine(run: Run, data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    run("train", data, "--out", model, "--method", "quorum", "--engine", "centres", "--transform", "rigid")
    run("segment", model, scan(data, 0), "--out", tmp_path / "labels")
    (found,) = (tmp_path / "labels").glob("*.nii.gz")
    assert np.array_equal(labels_of(found), labels_of(data / "sub-0" / "labels.nii.gz"))


@pytest.mark.slow
def test_a_benchmark_of_all_and_its_report(
    run: Run, data: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    plan = ";".join(("training.loss=brier", *tiny))
    methods = (
        "usual-label",
        "intensity-bins:bins=6",
        "quorum:engine=centres,transform=rigid",
        f"one-level:epochs=1,override={plan}",
    )
    run(
        "benchmark",
        data,
        "--methods",
        *methods,
        "--folds",
        "2",
        "--out",
        tmp_path / "bench",
        "--device",
        "cpu",
    )
    scores = pd.read_csv(tmp_path / "bench" / "scores.csv")
    assert len(scores.groupby(["method", "case"])) == 4 * 5
    assert scores["centre_distance_mm"].notna().all()
    run("report", tmp_path / "bench")
    page = (tmp_path / "bench" / "report" / "index.html").read_text()
    for name in ("usual-label", "intensity-bins", "quorum", "one-level"):
        assert name in page
    assert "entre distance" in page
