"""Worker processes for jobs whose work falls into independent parts."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

__all__ = ["available_cores", "worker_pool"]


def available_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that start from a clean interpreter, without the threads and the memory of this one.

    A process that is forked from one with running threads can deadlock, see
    https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods.
    """
    import multiprocessing

    offered = multiprocessing.get_all_start_methods()
    method = "forkserver" if "forkserver" in offered else "spawn"
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method))
