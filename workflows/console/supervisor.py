"""Run a command in a child process, under a parent that makes sure that it ends when it is signalled.

Registration libraries hold Python's interpreter for minutes, during which signals are not handled, and when they crash,
Python crashes too. The parent process only waits: it forwards signals, kills a child that does not react, and reports
a crash in one line.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from atlaseg.workflows.console.exit_codes import ExitCode
from atlaseg.workflows.console.heartbeat import Heartbeat
from atlaseg.workflows.console.screen import on_output

__all__ = ["INTERRUPTED", "TERMINATED", "TerminatedError", "heard_signals", "supervise"]

INTERRUPTED, TERMINATED = ExitCode.INTERRUPTED, ExitCode.TERMINATED

#: Seconds that a job has to end by itself after a signal.
GRACE = 5.0
_SAID: dict[int, str] = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}


class TerminatedError(BaseException):
    """SIGTERM was received, from a user or at the time limit of a cluster."""


@contextmanager
def heard_signals() -> Iterator[None]:
    """Handle SIGTERM like an interruption from the keyboard: end the workers and write the results so far."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return

    def end(number: int, _: object) -> None:
        # repeated signals, from the terminal and from the parent, must not interrupt the cleanup
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        if "multiprocessing" in sys.modules:
            from atlaseg.pipeline.system.worker_processes import end_workers

            end_workers()
        raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(name: str, job: Callable[[], int], after_a_crash: Callable[[], None]) -> int:
    """Run a job in a child process, where the system can fork; returns its exit code.

    Args:
        name: of the command, for messages.
        job: returns the exit code; called in the child.
        after_a_crash: cleans up after a job that crashed; called in this process.
    """
    if not hasattr(os, "fork") or threading.active_count() > 1:
        return job()
    from atlaseg.pipeline.progress import on_progress
    from atlaseg.pipeline.system.parent_watch import end_with_parent
    from atlaseg.workflows.console.scratch import make_scratch

    scratch = make_scratch()
    sys.stdout.flush()
    sys.stderr.flush()
    handed_on = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, handed_on)
    parent, heartbeat = os.getpid(), Heartbeat(name)
    child = os.fork()
    if child == 0:
        end_with_parent(parent)
        on_output(heartbeat.said)
        on_progress(heartbeat.tell)
        with heard_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handed_on)
            code = job()
        if code in _SAID or code == ExitCode.ERROR:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # waits for no thread; HDF5 that could not write crashes at an orderly end
        return code
    heartbeat.watch()
    watch = _Watch(child)
    for number in handed_on:
        signal.signal(number, watch.hand_on)
    signal.signal(signal.SIGALRM, watch.kill_child)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handed_on)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.setitimer(signal.ITIMER_REAL, 0)
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    if code < 0 or code in _SAID:
        after_a_crash()
    return code if code >= 0 else _say_crash(name, signal.Signals(-code), watch.signalled)


class _Watch:
    """Signal handling of the parent process."""

    def __init__(self, child: int) -> None:
        self.child = child
        self.signalled: int | None = None

    def hand_on(self, number: int, _: Any) -> None:
        """Forward a signal to the child; kill it at the second signal, or when it does not react."""
        if self.signalled is not None:
            self.kill_child()
            return
        self.signalled = number
        self._send(number)
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def kill_child(self, *_: Any) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.child, number)


def _say_crash(name: str, ended_by: signal.Signals, signalled: int | None) -> int:
    """Print one line about a job that was killed or crashed; returns the exit code."""
    if signalled is not None:
        print(f"atlaseg {name}: {_SAID[128 + signalled]}", file=sys.stderr)
        return 128 + signalled
    if ended_by == signal.SIGKILL:
        print(f"atlaseg {name}: killed by the system (out of memory?)", file=sys.stderr)
        return 128 + ended_by
    if 128 + ended_by in _SAID:
        print(f"atlaseg {name}: {_SAID[128 + ended_by]}", file=sys.stderr)
        return 128 + ended_by
    print(
        f"atlaseg {name}: a library crashed ({ended_by.name}) on these inputs; check them with atlaseg check, or try "
        "another method or engine",
        file=sys.stderr,
    )
    return ExitCode.ERROR
