"""Waiting for tasks of an executor whose workers may die."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TypeVar

__all__ = ["as_they_finish"]

T = TypeVar("T")

#: Seconds without a result after which the executor is asked whether it is still there.
PATIENCE = 60.0


def as_they_finish(
    executor: Executor, futures: Sequence[Future[T]], patience: float = PATIENCE
) -> Iterator[Future[T]]:
    """As :func:`concurrent.futures.as_completed`, but ends where workers have died.

    A process pool of Python 3.11 never answers a task that was submitted while it was finding out that a worker had
    died (https://github.com/python/cpython/issues/94777 is of this kind): waiting for it would not end. A broken pool
    takes no task, so it is asked to take one that does nothing.

    Args:
        executor: that the futures are of.
        futures: to wait for.
        patience: seconds without a result after which it is asked.

    Raises:
        BrokenExecutor: a worker has died.
    """
    pending = set(futures)
    while pending:
        done, pending = wait(pending, patience, FIRST_COMPLETED)
        if not done:
            executor.submit(_nothing)
        yield from done


def _nothing() -> None:
    """Done at once."""
