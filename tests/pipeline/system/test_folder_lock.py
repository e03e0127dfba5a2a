"""Locks on the place that a job writes, and what killed jobs leave there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlaseg.pipeline.errors import BusyFolderError
from atlaseg.pipeline.io.files import WRITING, replacing, write_text
from atlaseg.pipeline.system.folder_lock import locked

HOLDER = """
import sys, time
from pathlib import Path
from atlaseg.pipeline.system.folder_lock import locked

with locked(Path(sys.argv[1]), "train"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that jobs write."""
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def holder(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds it."""
    words = [sys.executable, "-c", HOLDER, str(run)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_says_who_holds_it(run: Path, holder: subprocess.Popen[str]) -> None:
    (lock,) = [path for path in run.parent.iterdir() if path.suffix == ".atlaseg-lock"]
    assert set(json.loads(lock.read_text())) == {"process", "command", "since"}
    said = rf"{run}: atlaseg train is writing there \(process {holder.pid}, since 20"
    for place in (run, run.parent / "run" / ".." / "run"):
        with pytest.raises(BusyFolderError, match=said), locked(place, "segment"):
            pytest.fail("held twice")


def test_another_place_is_free(run: Path, holder: subprocess.Popen[str]) -> None:
    places = (run.parent / "other", run / "labels")
    for place in places:
        with locked(place, "segment"), pytest.raises(BusyFolderError), locked(place, "train"):
            pytest.fail("held twice")


def test_a_lock_of_a_killed_job_is_ignored(run: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(list(run.parent.iterdir())) == 2
    with locked(run, "train"):
        pass
    assert list(run.parent.iterdir()) == [run]


def test_it_goes_away_with_the_job_and_so_do_folders_made_for_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "new" / "inner" / "run", "train"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "new" / "inner" / "run", "train"):
        write_text(tmp_path / "new" / "inner" / "run" / "plan.yaml", "")
    assert [p.name for p in (tmp_path / "new" / "inner").iterdir()] == ["run"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_beside_which_nothing_can_be_written(run: Path) -> None:
    run.parent.chmod(0o555)
    try:
        with locked(run, "train"):
            assert len(list(run.iterdir())) == 1
            with pytest.raises(BusyFolderError), locked(run, "segment"):
                pass
    finally:
        run.parent.chmod(0o755)
    assert list(run.iterdir()) == []


def test_what_a_killed_job_left_is_removed(run: Path) -> None:
    kept = [run / "plan.yaml", run / "models" / "model.pt", run.parent / f"{WRITING}other.csv"]
    left = [
        run / f"{WRITING}a.yaml",
        run / "models" / f"{WRITING}b.pt",
        run / ".registrations" / "scan" / f"{WRITING}c.h5",
        run / "folds" / f"{WRITING}test" / "images" / "a.nii.gz",
        run.parent / f"{WRITING}run-0a_b1c2d" / "imagesTr" / "a.nii.gz",
    ]
    of_another = run.parent / f"{WRITING}run-x-0a_b1c2d"
    of_another.mkdir()
    for path in (*kept, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with locked(run, "train"):
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in (*kept, of_another))


def test_what_is_being_written_stays(run: Path, holder: subprocess.Popen[str]) -> None:
    """The job that holds ``run`` writes in it while another takes the folder around it, or a file inside."""
    half = run / f"{WRITING}a.csv"
    half.touch()
    with locked(run.parent, "benchmark"):
        assert half.exists()
    with locked(run / "scores.csv", "evaluate"):
        assert half.exists()
    holder.kill()
    holder.wait()
    with locked(run / "scores.csv", "evaluate"):
        assert not half.exists()


def test_a_file_that_is_written_beside_others(tmp_path: Path) -> None:
    with locked(tmp_path / "a.csv", "evaluate"), replacing(tmp_path / "a.csv") as half:
        done = subprocess.run(
            [sys.executable, "-c", HOLDER.replace("time.sleep(60)", ""), str(tmp_path / "b.csv")],
            check=True,
            capture_output=True,
        )
        assert done.stdout == b"held\n"
        assert half.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_names_that_no_lock_can_have(tmp_path: Path) -> None:
    begun = time.monotonic()
    for place in (tmp_path / "a\0b", tmp_path / ("n" * 250), tmp_path / "file" / "run"):
        (tmp_path / "file").touch()
        with locked(place, "train"):
            pass
    assert time.monotonic() - begun < 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
