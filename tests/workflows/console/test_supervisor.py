"""The process above a command's job: signals handed on, jobs that do not follow, crashes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")

SCRIPT = """
import ctypes, os, sys, time
from atlaseg.workflows.console import supervisor
from atlaseg.workflows.console.exit_codes import TERMINATED, TerminatedError
from atlaseg.workflows.console.supervisor import supervise

supervisor.GRACE = 0.5

def follows():
    try:
        print("begun", flush=True)
        time.sleep(60)
    except TerminatedError:
        print("atlaseg train: terminated", file=sys.stderr)
        return TERMINATED
    return 0

def deaf():
    print("begun", flush=True)
    # locked twice, and the interpreter is not given free: as a long call of a registration library
    mutex = ctypes.create_string_buffer(128)
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    return 0

JOBS = {
    "follows": follows,
    "deaf": deaf,
    "crashes": os.abort,
    "killed": lambda: os.kill(os.getpid(), 9),
    "one": lambda: 1,
    "nothing": lambda: 0,
}
sys.exit(supervise("train", JOBS[sys.argv[1]], lambda: print("tidied", flush=True)))
"""


def start(tmp_path: Path, job: str) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), job]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("job", "code", "said"),
    [
        ("nothing", 0, ""),
        ("one", 1, ""),
        ("killed", 137, "atlaseg train: killed by the system (out of memory?)\n"),
        ("crashes", 2, "atlaseg train: a library crashed (SIGABRT) on these inputs"),
    ],
)
def test_how_a_job_ends(tmp_path: Path, job: str, code: int, said: str) -> None:
    process = start(tmp_path, job)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.startswith(said)
    assert err.count("\n") <= 1
    assert out == ("" if code == 1 or not code else "tidied\n")


@pytest.mark.parametrize(
    ("job", "sent", "code"),
    [("follows", signal.SIGTERM, 143), ("deaf", signal.SIGTERM, 143), ("deaf", signal.SIGINT, 130)],
)
def test_signals(tmp_path: Path, job: str, sent: signal.Signals, code: int) -> None:
    process = start(tmp_path, job)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)  # until it is deaf
    family = psutil.Process(process.pid).children()
    begun = time.monotonic()
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert process.returncode == code
    assert err == f"atlaseg train: {'terminated' if code == 143 else 'interrupted'}\n"
    assert out == "tidied\n"
    assert psutil.wait_procs(family, timeout=5)[1] == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the job notices when its library lets it")
def test_a_job_ends_with_the_process_above(tmp_path: Path) -> None:
    process = start(tmp_path, "deaf")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    family = psutil.Process(process.pid).children()
    assert len(family) == 1
    process.kill()
    process.communicate()
    assert psutil.wait_procs(family, timeout=5)[1] == []
