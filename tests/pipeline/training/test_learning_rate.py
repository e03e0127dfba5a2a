"""Learning rates, against values worked out by hand and torch's own schedules."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.training.budget import Budget
from atlaseg.pipeline.training.learning_rate import SCHEDULES, LearningRateSchedule, learning_rate_factor


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warmup_rises_linearly_and_is_never_zero(schedule: str) -> None:
    assert learning_rate_factor(schedule, 0.0, 0.2) == pytest.approx(1e-3)
    assert learning_rate_factor(schedule, 0.1, 0.2) == pytest.approx(0.5)
    assert learning_rate_factor(schedule, 0.2, 0.2) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("schedule", "end", "middle"),
    [("poly", 0.0, 0.5**0.9), ("cosine", 0.0, 0.5), ("plateau", 1.0, 1.0), ("constant", 1.0, 1.0)],
)
def test_known_values(schedule: str, end: float, middle: float) -> None:
    assert learning_rate_factor(schedule, 0.6, 0.2) == pytest.approx(middle)
    assert learning_rate_factor(schedule, 1.0, 0.2) == pytest.approx(end)


def test_warmup_of_the_whole_budget() -> None:
    assert learning_rate_factor("constant", 1.0, 1.0) == 1.0


def trained_rates(schedule: str, warmup: float = 0.0, epochs: int = 4, each: int = 5) -> list[float]:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [parameter]}, {"params": [torch.nn.Parameter(torch.zeros(1))]}])
    budget = Budget(epochs, None, each)
    handler = LearningRateSchedule(optimizer, budget, schedule, 0.1, warmup)
    rates = []

    def step(_engine: Engine, _batch: object) -> None:
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert first == second
        rates.append(first)

    engine = Engine(step)
    budget.attach(engine)
    handler.attach(engine)
    engine.run(range(each), max_epochs=epochs)
    return rates


def test_agrees_with_torchs_schedules() -> None:
    def rates(make: type, **options: float) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = make(optimizer, **options)
        found = []
        for _ in range(20):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    schedulers = torch.optim.lr_scheduler
    assert trained_rates("poly") == pytest.approx(rates(schedulers.PolynomialLR, total_iters=20, power=0.9))
    assert trained_rates("cosine") == pytest.approx(rates(schedulers.CosineAnnealingLR, T_max=20))


def make_plateau() -> LearningRateSchedule:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    return LearningRateSchedule(optimizer, Budget(1, None, 10), "plateau", 0.1, 0.0)


def rate_of(handler: LearningRateSchedule) -> float:
    handler._set(None)  # type: ignore[arg-type]
    return handler.optimizer.param_groups[0]["lr"]


def test_plateau_halves_after_five_validations_without_progress() -> None:
    handler = make_plateau()
    handler.validated(0.5)
    for _ in range(4):
        handler.validated(0.5)
        assert rate_of(handler) == pytest.approx(0.1)
    handler.validated(0.4)
    assert rate_of(handler) == pytest.approx(0.05)
    handler.validated(0.6)  # better: patience begins anew
    for _ in range(5):
        handler.validated(0.6)
    assert rate_of(handler) == pytest.approx(0.025)


def test_plateau_survives_an_interruption() -> None:
    handler = make_plateau()
    for score in (0.5, *[0.4] * 8):
        handler.validated(score)
    other = make_plateau()
    other.load_state_dict(handler.state_dict())
    for one in (handler, other):
        one.validated(0.1)
        one.validated(0.1)
    assert rate_of(other) == rate_of(handler) == pytest.approx(0.025)


def test_other_schedules_ignore_scores() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    handler = LearningRateSchedule(optimizer, Budget(1, None, 10), "poly", 0.1, 0.0)
    for _ in range(20):
        handler.validated(0.0)
    assert rate_of(handler) == pytest.approx(0.1)
    assert not math.isfinite(handler.state_dict()["best"])


def test_unknown_name() -> None:
    with pytest.raises(OptionError, match="poly, cosine, plateau, constant"):
        learning_rate_factor("linear", 0.5, 0.0)
    with pytest.raises(OptionError):
        LearningRateSchedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]), None, "x", 1, 0)  # type: ignore[arg-type]
