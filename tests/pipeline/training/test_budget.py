"""Budgets in epochs and minutes, against a clock that the test moves."""

from __future__ import annotations

import math

import pytest
from ignite.engine import Engine, Events

from atlaseg.pipeline.training import budget as module
from atlaseg.pipeline.training.budget import Budget


class Clock:
    """Stands in for the ``time`` module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def engine_with(clock: Clock, seconds: float) -> Engine:
    """An engine of which each step takes so many seconds."""

    def step(_engine: Engine, _batch: object) -> None:
        clock.now += seconds

    return Engine(step)


def test_epochs(clock: Clock) -> None:
    budget = Budget(4, None, 5)
    fractions = []
    engine = engine_with(clock, 3.0)
    budget.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: fractions.append(budget.fraction))
    assert math.isnan(budget.remaining)
    engine.run(range(5), max_epochs=2)
    assert fractions == [n / 20 for n in range(1, 11)]
    assert budget.elapsed == 30
    assert budget.remaining == pytest.approx(30)  # half is done in 30 seconds
    assert budget.max_epochs == 4


def test_minutes_end_with_the_step_that_uses_them_up(clock: Clock) -> None:
    budget = Budget(None, 1.0, 5)
    engine = engine_with(clock, 7.0)
    budget.attach(engine)
    engine.run(range(5), max_epochs=budget.max_epochs)
    assert engine.state.iteration == 9  # 9 * 7 s is the first multiple beyond 60 s
    assert budget.fraction == 1.0
    assert budget.remaining == 0.0


def test_validation_counts_and_the_next_step_knows(clock: Clock) -> None:
    budget = Budget(None, 1.0, 2)
    engine = engine_with(clock, 1.0)
    budget.attach(engine)
    seen = []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda _: seen.append(budget.fraction))

    def validate(_engine: Engine) -> None:
        clock.now += 10

    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    engine.run(range(2), max_epochs=2)
    assert seen == pytest.approx([0, 1 / 60, 12 / 60, 13 / 60])


def test_an_interruption_does_not_count(clock: Clock) -> None:
    first = Budget(None, 1.0, 5)
    engine = engine_with(clock, 2.0)
    first.attach(engine)
    engine.run(range(5), max_epochs=1)
    state = first.state_dict()
    clock.now += 5000
    second = Budget(None, 1.0, 5)
    second.load_state_dict(state)
    assert second.fraction == pytest.approx(10 / 60)
    engine = engine_with(clock, 2.0)
    second.attach(engine)
    engine.run(range(5), max_epochs=second.max_epochs)
    assert second.elapsed == 60
    assert engine.state.iteration == 25


def test_all_processes_go_by_the_first_ones_clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "first_rank_value", lambda _: 45.0)
    budget = Budget(None, 1.0, 5)
    engine = engine_with(clock, 100.0)  # this process's own clock would end at once
    budget.attach(engine)
    engine.run(range(5), max_epochs=1)
    assert engine.state.iteration == 5
    assert budget.fraction == 0.75


@pytest.mark.parametrize(("epochs", "minutes"), [(None, None), (3, 1.0)])
def test_exactly_one_budget(epochs: int | None, minutes: float | None) -> None:
    with pytest.raises(ValueError, match="either epochs or minutes"):
        Budget(epochs, minutes, 5)
