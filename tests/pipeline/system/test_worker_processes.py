"""Worker processes: where they look for modules, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from atlaseg.pipeline.system.worker_processes import available_cores, python_command, worker_pool

DECOYS = ("multiprocessing", "json", "pickle", "numpy", "pipeline", "concurrent", "workflows")


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A folder of modules that leave a mark when they are imported."""
    folder = tmp_path / "decoys"
    folder.mkdir()
    for name in DECOYS:
        mark = f"import pathlib; pathlib.Path({str(folder / f'{name}.mark')!r}).touch()\n"
        (folder / f"{name}.py").write_text(mark)
    return folder


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="elsewhere a process may use every core")
def test_available_cores_are_those_of_this_process() -> None:
    before = os.sched_getaffinity(0)
    assert available_cores() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_workers_import_nothing_from_the_current_folder(
    decoys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(decoys)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(sys, "path", ["", *sys.path, "", "."])
    with worker_pool(1) as pool:
        assert pool.submit(abs, -3).result() == 3
    assert not list(decoys.glob("*.mark"))
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_command_runs_the_module_of_this_installation(decoys: Path) -> None:
    # any module with a main() does; it is asked for its file by a second program
    command = python_command("atlaseg.pipeline.system.worker_processes")
    command[-1] = command[-1].replace("import main; main()", "import python_command as f; ") + (
        "import atlaseg.pipeline, atlaseg.workflows; print(atlaseg.pipeline.__file__, atlaseg.workflows.__file__)"
    )
    done = subprocess.run(command, cwd=decoys, capture_output=True, text=True, check=True)

    import atlaseg.pipeline
    import atlaseg.workflows

    assert done.stdout.split() == [atlaseg.pipeline.__file__, atlaseg.workflows.__file__]
    assert not list(decoys.glob("*.mark"))


WORKERS = """
import ctypes, os, sys, time
from pathlib import Path
from atlaseg.pipeline.system.worker_processes import worker_pool

def deaf(folder):
    (Path(folder) / str(os.getpid())).touch()
    ctypes.PyDLL(None).sleep(60)  # as registration libraries do: the interpreter is not given free

if __name__ == "__main__":
    with worker_pool(2) as pool:
        futures = [pool.submit(deaf, sys.argv[1]) for _ in range(2)]
        futures[0].result()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker notices when its library lets it")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script, started = tmp_path / "script.py", tmp_path / "started"
    script.write_text(WORKERS)
    started.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(started)])
    try:
        while len(list(started.iterdir())) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
        family = [psutil.Process(parent.pid), *psutil.Process(parent.pid).children(recursive=True)]
        assert len(family) >= 3
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert psutil.wait_procs(family, timeout=5)[1] == []
