"""Run a command in a child process, under a parent that makes sure that it ends when it is signalled.

Registration libraries hold Python's interpreter for minutes: a signal is not heard before they are done, and when they
crash they take Python along. The process above does nothing but wait: it hands signals on, ends a job that does not
follow, and says in one line what has become of one that crashed.
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

from atlaseg.workflows.console.exit_codes import INTERRUPTED, REFUSED, TERMINATED, TerminatedError
from atlaseg.workflows.console.heartbeat import Heartbeat
from atlaseg.workflows.console.screen import on_output

__all__ = ["handled_signals", "supervise"]

#: Seconds that a job has to end in order, once it was told to.
GRACE = 5.0
_SAID = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}


@contextmanager
def handled_signals() -> Iterator[None]:
    """Handle SIGTERM like an interruption from the keyboard: end the workers and write the results so far."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return

    def end(number: int, _: object) -> None:
        # the same again, from the terminal and from the process above, must not interrupt the tidying up
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
        after_a_crash: tidies up what a job leaves behind that could not do it itself; called here.
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
        with handled_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handed_on)
            code = job()
        if code in _SAID or code == REFUSED:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # waits for no thread; HDF5 that could not write crashes at an orderly end
        return code
    heartbeat.watch()
    watch = _Watch(child)
    for number in handed_on:
        signal.signal(number, watch.hand_on)
    signal.signal(signal.SIGALRM, watch.lose_patience)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handed_on)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.setitimer(signal.ITIMER_REAL, 0)
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    if code < 0 or code in _SAID:
        after_a_crash()
    return code if code >= 0 else _say_crash(name, signal.Signals(-code), watch.told)


class _Watch:
    """Signal handling of the parent process."""

    def __init__(self, child: int) -> None:
        self.child = child
        self.told: int | None = None

    def hand_on(self, number: int, _: Any) -> None:
        """Tell the child; at the second time, or when it does not follow, kill it."""
        if self.told is not None:
            self.lose_patience()
            return
        self.told = number
        self._send(number)
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def lose_patience(self, *_: Any) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.child, number)


def _say_crash(name: str, ended_by: signal.Signals, told: int | None) -> int:
    """Print one line about a job that was killed or crashed; returns the exit code."""
    if told is not None:
        print(f"atlaseg {name}: {_SAID[128 + told]}", file=sys.stderr)
        return 128 + told
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
    return REFUSED
