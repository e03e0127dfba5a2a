"""Pools of worker processes, which import nothing from the current folder and end with this process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from atlaseg.pipeline.system.parent_watch import end_with_parent

__all__ = ["available_cores", "end_workers", "python_command", "safe_path_environment", "worker_pool"]

P = ParamSpec("P")
T = TypeVar("T")

#: Tells Python to leave the current folder out of where modules are looked for: https://docs.python.org/3/using/cmdline.html
_SAFE_PATH = "PYTHONSAFEPATH"


def available_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_pool(
    workers: int, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """Processes that start from a clean interpreter, without the threads and the memory of this one.

    A process that is forked from one with running threads can deadlock, see
    https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods. They end with this process, and
    with the thread that hands in their first tasks.

    Args:
        workers: so many at most.
        initializer: called in each.
        initargs: its arguments.
    """
    with _safe_path():  # multiprocessing starts another process here
        return _WorkerPool(
            workers,
            # not forkserver: its workers keep it alive, and it them, when this process is gone
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(os.getpid(), initializer, initargs),
        )


class _WorkerPool(ProcessPoolExecutor):
    """A pool whose processes do not look for modules in the current folder."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        # processes are started by this call
        with _safe_path():
            return super().submit(fn, *args, **kwargs)


def _begin(parent: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    end_with_parent(parent)
    # an interruption from the keyboard reaches every process of the terminal; it is for the parent to say what ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if initializer is not None:
        initializer(*initargs)


def end_workers() -> None:
    """Kill the processes of all pools of this process; what they were at is lost."""
    for process in multiprocessing.active_children():
        process.kill()


def safe_path_environment() -> dict[str, str]:
    """Environment variables with which Python imports nothing from the current folder."""
    return {_SAFE_PATH: "1"}


@contextmanager
def _safe_path() -> Iterator[None]:
    """Start processes that do not look in the current folder, where this one may: they get its search path."""
    before, paths = os.environ.get(_SAFE_PATH), sys.path[:]
    os.environ.update(safe_path_environment())
    sys.path[:] = _safe_paths()
    try:
        yield
    finally:
        sys.path[:] = paths
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def _safe_paths() -> list[str]:
    """Python's search path without the current folder."""
    return [entry for entry in sys.path if entry not in ("", ".")]


def python_command(module: str) -> list[str]:
    """Command that calls ``main()`` of a module of this very installation in another process.

    ``python -m`` would look in the current folder first, which may hold a module of the same name.

    Args:
        module: its name with dots.
    """
    program = f"import sys; sys.path[:] = {_safe_paths()!r}; from {module} import main; main()"
    return [sys.executable, "-P", "-c", program]
