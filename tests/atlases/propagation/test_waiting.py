"""Waiting for tasks: all are seen once, and a pool that has died is noticed."""

from __future__ import annotations

import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from atlaseg.atlases.propagation.waiting import as_they_finish


def test_all_are_seen_once_as_they_finish() -> None:
    with ThreadPoolExecutor(3) as executor:
        futures = [executor.submit(time.sleep, seconds) for seconds in (0.2, 0.05, 0.0)]
        seen = list(as_they_finish(executor, futures, patience=0.01))
    assert set(seen) == set(futures)
    assert len(seen) == 3
    assert seen[-1] is futures[0]


def test_an_error_stays_in_its_future() -> None:
    with ThreadPoolExecutor(1) as executor:
        (future,) = as_they_finish(executor, [executor.submit(int, "x")])
    with pytest.raises(ValueError, match="invalid literal"):
        future.result()


class Dead(Executor):
    """Took tasks, and died before it knew."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        self.patience -= 1
        if self.patience < 0:
            raise BrokenProcessPool("A child process terminated abruptly")
        return Future()


def test_a_pool_that_died_unnoticed_ends_the_waiting() -> None:
    executor = Dead(patience=3)
    lost: list[Future[Any]] = [executor.submit(int), executor.submit(int)]
    with pytest.raises(BrokenExecutor):
        list(as_they_finish(executor, lost, patience=0.01))
