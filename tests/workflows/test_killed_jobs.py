"""Every kind of job, killed at several moments: nothing of it stays, and the same command finishes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]

RIGID = ("--transform", "rigid")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "COVERAGE_PROCESS_START"} | {
    "OMP_NUM_THREADS": "1"
}


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "atlaseg.workflows.cli", *map(str, words)]


def end_early(words: list[str], sign: Callable[[], bool], number: int, log: Path) -> int:
    """Start a command and send it a signal as soon as there is a sign; returns its exit code.

    The sign must come, and no process may be there ten seconds later.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(words, env=ENVIRONMENT, stdout=output, stderr=output)
    while not sign():
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(number)
    code = process.wait(timeout=10)
    assert psutil.wait_procs(family, timeout=10)[1] == []
    return code


def written(folder: Path, pattern: str) -> set[tuple[Path, int]]:
    """Files that match a pattern, with the time of their last change."""
    found = set()
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):  # renamed just then
            found.add((path, path.stat().st_mtime_ns))
    return found


def half_written(folder: Path) -> list[Path]:
    """Files and locks that a job has only while it is under way."""
    return [p for p in folder.rglob(".*") if p.name.startswith(".writing-") or "atlaseg-lock" in p.name]


def jobs(data: Path, out: Path, tiny: tuple[str, ...]) -> dict[str, tuple[list[str], list[str]]]:
    """Commands, and patterns of files below ``out`` whose coming is the moment to kill."""
    images = data / "imagesTr"
    fixed, moving = images / "shapes_000.nii.gz", images / "shapes_001.nii.gz"
    training = ("--epochs", "4", "--device", "cpu", "--override", *tiny)
    fusion = ("--method", "joint-fusion", *RIGID, "--correct", "yes")
    compared = ("--methods", "gmm,majority:transform=rigid", "--folds", "2")
    return {
        "train": (
            command("train", data, "--out", out, *training),
            ["configs/*", "mlflow/*", "models/*", "history.json", "overlay.png"],
        ),
        "train-atlases": (
            command("train", data, "--out", out, *fusion),
            ["*", ".registrations/**/*.json", "atlases/*"],
        ),
        "segment": (command("segment", data, images, "--out", out, *RIGID), ["*", "*/*/*.json", "*.nii.gz"]),
        "register": (command("register", fixed, moving, "--out", out, *RIGID), ["*"]),
        "build-atlas": (command("build-atlas", data, "--out", out, *RIGID), ["*", "work/*/*-00/*.h5"]),
        "benchmark": (
            command("benchmark", data, *compared, "--out", out),
            ["cells/*", "cells/*/*/*/cases/*"],
        ),
    }


@pytest.mark.thorough
@pytest.mark.parametrize("job", ["train", "train-atlases", "segment", "register", "build-atlas", "benchmark"])
def test_a_killed_job_is_finished_by_the_same_command(
    shapes_folder: Path, tmp_path: Path, tiny: tuple[str, ...], job: str
) -> None:
    out, log = tmp_path / "out", tmp_path / "log.txt"
    words, patterns = jobs(shapes_folder, out, tiny)[job]
    for pattern in patterns:
        before = written(out, pattern)
        code = end_early(words, lambda p=pattern, b=before: bool(written(out, p) - b), signal.SIGKILL, log)
        assert code == -signal.SIGKILL
    subprocess.run(words, env=ENVIRONMENT, check=True, capture_output=True)
    assert half_written(tmp_path) == []


@pytest.mark.thorough
@pytest.mark.parametrize("job", ["train", "segment", "register", "build-atlas", "benchmark"])
def test_a_job_ends_at_sigterm(shapes_folder: Path, tmp_path: Path, tiny: tuple[str, ...], job: str) -> None:
    out, log = tmp_path / "out", tmp_path / "log.txt"
    words, patterns = jobs(shapes_folder, out, tiny)[job]
    assert end_early(words, lambda: any(out.glob(patterns[0])), signal.SIGTERM, log) == 143
    assert log.read_text().splitlines()[-1] == f"atlaseg {words[3]}: terminated"
    assert half_written(tmp_path) == []
