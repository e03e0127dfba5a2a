"""The parent process reports on a command that is silent for long, even while it holds the interpreter lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atlaseg.workflows.console.heartbeat import Heartbeat

#: Holds the interpreter's lock for two seconds, as registration libraries do.
PROGRAM = """
import ctypes, sys
from atlaseg.workflows.console import heartbeat
from atlaseg.workflows.console import supervisor
from atlaseg.workflows.console.screen import only_printable
from atlaseg.pipeline.progress import ProgressDisplay

def job():
    with only_printable(), ProgressDisplay("registering", 4, "scan") as work:
        work.show(1)
        ctypes.PyDLL(None).sleep(2)
        print("done")
    return 0

plain = heartbeat.Heartbeat
supervisor.Heartbeat = lambda name: plain(name, seconds=0.5)
sys.exit(supervisor.supervise("register", job, lambda: None))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_silent_job_is_reported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "done\n"
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 5
    assert all(
        line.startswith("atlaseg register: at work for 0.0 min (registering: 1 of 4 scans)") for line in lines
    )


def test_what_is_said_puts_the_line_off() -> None:
    heartbeat = Heartbeat("train", seconds=0.0)
    heartbeat.tell("training: 3%")
    assert str(heartbeat.due()).startswith("atlaseg train: at work for 0.0 min (training: 3%)")
    heartbeat.seconds = 30.0
    assert heartbeat.due() is None
    heartbeat.tell("ü" * 5000)  # more than there is room for
    heartbeat.seconds = 0.0
    assert "üüü" in str(heartbeat.due())
