"""Rows of the history, through an engine whose steps and times are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine

from atlaseg.pipeline.errors import DivergenceError
from atlaseg.pipeline.training import budget as budget_module
from atlaseg.pipeline.training.budget import Budget
from atlaseg.pipeline.training.history import History


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=50.0)
    made.monotonic = lambda: made.now
    monkeypatch.setattr(budget_module, "time", made)
    return made


def engine_with(history: History, clock: SimpleNamespace, losses: list[float]) -> Engine:
    """An engine whose steps take two seconds and give these losses."""

    def step(engine: Engine, _batch: object) -> dict[str, torch.Tensor]:
        clock.now += 2
        return {"loss": torch.tensor(losses[engine.state.iteration - 1], requires_grad=True)}

    engine = Engine(step)
    engine.optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}, {"lr": 0.2}])
    history.budget.attach(engine)
    history.attach(engine)
    return engine


def test_rows(tmp_path: Path, clock: SimpleNamespace) -> None:
    path = tmp_path / "history.json"
    history = History(path, Budget(2, None, 2), batch_size=3)
    engine = engine_with(history, clock, [4.0, 2.0, 1.0, 0.5])
    assert math.isnan(history.recent_loss)
    engine.run(range(2), max_epochs=2)
    assert history.rows == json.loads(path.read_text())
    assert history.rows == [
        {"epoch": 1, "iteration": 2, "seconds": 4, "loss": 3.0, "lr": 0.2, "patches_per_second": 1.5},
        {"epoch": 2, "iteration": 4, "seconds": 8, "loss": 0.75, "lr": 0.2, "patches_per_second": 1.5},
    ]
    assert history.recent_loss == 0.75
    assert engine.state.metrics == {"seconds": 8, "loss": 0.75, "lr": 0.2, "patches_per_second": 1.5}


def test_scores_join_the_last_row(tmp_path: Path, clock: SimpleNamespace) -> None:
    history = History(tmp_path / "h.json", Budget(2, None, 2), batch_size=1)
    engine = engine_with(history, clock, [1.0] * 4)
    engine.run(range(2), max_epochs=2)
    history.validated(engine, {"val_dice": 0.5, "val_dice_liver": 0.5})
    assert history.validations == [(4, 0.5)]
    assert engine.state.metrics["val_dice_liver"] == 0.5
    assert json.loads((tmp_path / "h.json").read_text())[1]["val_dice"] == 0.5


def test_an_epoch_cut_short_has_a_row(tmp_path: Path, clock: SimpleNamespace) -> None:
    history = History(tmp_path / "h.json", Budget(None, 0.1, 5), batch_size=1)  # six seconds, three steps
    engine = engine_with(history, clock, [3.0, 2.0, 1.0])
    engine.run(range(5), max_epochs=9)
    history.close_row(engine)
    history.close_row(engine)
    assert [(row["iteration"], row["loss"]) for row in history.rows] == [(3, 2.0)]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_training(tmp_path: Path, clock: SimpleNamespace, loss: float) -> None:
    history = History(tmp_path / "h.json", Budget(2, None, 2), batch_size=1)
    engine = engine_with(history, clock, [1.0, loss])
    with pytest.raises(DivergenceError, match=r"epoch 1: lower training\.learning_rate"):
        engine.run(range(2), max_epochs=2)


def test_only_the_first_process_writes(tmp_path: Path, clock: SimpleNamespace) -> None:
    history = History(tmp_path / "h.json", Budget(1, None, 1), batch_size=1, writes=False)
    engine_with(history, clock, [1.0]).run(range(1), max_epochs=1)
    assert len(history.rows) == 1
    assert not (tmp_path / "h.json").exists()


def test_resumes(tmp_path: Path, clock: SimpleNamespace) -> None:
    first = History(tmp_path / "h.json", Budget(1, None, 1), batch_size=1)
    engine_with(first, clock, [1.0]).run(range(1), max_epochs=1)
    state = first.state_dict()
    second = History(tmp_path / "h.json", Budget(1, None, 1), batch_size=1)
    second.load_state_dict(state)
    second.rows.append({"iteration": 2})
    assert len(state["rows"]) == 1  # a copy
