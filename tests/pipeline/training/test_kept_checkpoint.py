"""Which weights become the model, and when training ends early."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from atlaseg.pipeline.training.averaging import WeightAverage
from atlaseg.pipeline.training.budget import Budget
from atlaseg.pipeline.training.checkpoint import read_torch_file
from atlaseg.pipeline.training.history import History
from atlaseg.pipeline.training.kept_checkpoint import ModelKeeper
from atlaseg.pipeline.training.learning_rate import LearningRateSchedule


class Run:
    """Training whose only weight is the number of the step, validated with given Dice per epoch."""

    def __init__(
        self,
        folder: Path,
        dice: list[float],
        schedule: str = "poly",
        each: int = 1,
        interval: int = 1,
        **options: Any,
    ) -> None:
        self.network = nn.Linear(1, 1, bias=False)
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        budget = Budget(len(dice), None, each)
        self.history = History(folder / "history.json", budget, 1)
        handler = LearningRateSchedule(optimizer, budget, schedule, 0.1, 0.0)
        self.validations = 0
        evaluator = SimpleNamespace(state=SimpleNamespace(metric_details={}), run=self.validate)
        self.evaluator, self.dice = evaluator, dice
        average = WeightAverage(self.network, None)
        self.path = folder / "model.pt"
        self.keeper = ModelKeeper(
            self.path,
            evaluator,  # type: ignore[arg-type]
            average,
            self.history,
            handler,
            ["liver", "lesion"],
            interval,
            **options,
        )
        self.engine = Engine(self.step)
        self.engine.optimizer = optimizer
        self.engine.state.epoch_length = each
        for part in (budget, handler, self.history):
            part.attach(self.engine)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED(every=interval), lambda _: self.validate())
        self.keeper.attach(self.engine)
        self.each = each

    def step(self, engine: Engine, _batch: object) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            self.network.weight.fill_(float(engine.state.iteration))
        return {"loss": torch.tensor(1.0)}

    def validate(self) -> None:
        score = self.dice[self.engine.state.epoch - 1]
        self.validations += 1
        # two cases, two structures: the mean is the score
        self.evaluator.state.metric_details["val_mean_dice"] = torch.tensor(
            [[score - 0.1, score + 0.2], [score - 0.2, score + 0.1]]
        )

    def run(self) -> Run:
        self.engine.run(range(self.each), max_epochs=len(self.dice))
        return self

    @property
    def kept(self) -> float:
        return float(read_torch_file(self.path)["weight"])


@pytest.mark.parametrize(("schedule", "kept"), [("poly", 4), ("cosine", 4), ("plateau", 2), ("constant", 2)])
def test_latest_or_best(tmp_path: Path, schedule: str, kept: int) -> None:
    run = Run(tmp_path, [0.3, 0.7, 0.6, 0.5], schedule).run()
    assert run.kept == kept
    assert run.keeper.best == pytest.approx(0.7)
    assert run.keeper.finished


def test_scores_per_structure(tmp_path: Path) -> None:
    row = Run(tmp_path, [0.5]).run().history.rows[-1]
    assert row["val_dice"] == pytest.approx(0.5)
    assert row["val_dice_liver"] == pytest.approx(0.35)
    assert row["val_dice_lesion"] == pytest.approx(0.65)


def test_early_stopping_keeps_the_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run = Run(tmp_path, [0.3, 0.7, 0.6, 0.7, 0.8, 0.9], early_stopping=2).run()
    assert run.engine.state.epoch == 4  # an equal score is not a better one
    assert run.kept == 2
    assert run.keeper.finished
    assert "Stopping early" in caplog.text


def test_validates_at_the_end_once_more(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1] * 5, interval=2).run()
    assert [iteration for iteration, _ in run.history.validations] == [2, 4, 5]
    assert run.validations == 3
    assert run.kept == 5


def test_does_not_validate_the_same_weights_twice(tmp_path: Path) -> None:
    assert Run(tmp_path, [0.1] * 4, interval=2).run().validations == 2


def test_the_average_is_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1, 0.2])
    run.keeper.average = WeightAverage(run.network, 0.9)
    with torch.no_grad():
        run.keeper.average.module.weight.fill_(-5.0)
    run.run()
    assert run.kept == -5.0


def test_only_the_first_process_writes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run = Run(tmp_path, [0.3, 0.2, 0.1], early_stopping=1, writes=False).run()
    assert run.engine.state.epoch == 2  # it stops with the others
    assert not run.path.exists()
    assert not [r for r in caplog.records if r.name.startswith("pipeline")]


def test_state(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.3, 0.2], early_stopping=5).run()
    other = Run(tmp_path, [0.1])
    other.keeper.load_state_dict(run.keeper.state_dict())
    assert other.keeper.best == run.keeper.best
    assert (other.keeper.waited, other.keeper.finished) == (1, True)
