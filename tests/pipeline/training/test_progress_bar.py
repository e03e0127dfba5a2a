"""The progress bar, drawn into memory."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from atlaseg.pipeline.training.budget import Budget
from atlaseg.pipeline.training.history import History
from atlaseg.pipeline.training.progress_bar import ProgressBar


def run(tmp_path: object, enabled: bool | None, fail: bool = False) -> None:
    budget = Budget(2, None, 2)
    history = History(f"{tmp_path}/h.json", budget, 4)
    history.rows.append({"iteration": 0, "val_dice": 0.5})

    def step(_engine: Engine, _batch: object) -> dict[str, torch.Tensor]:
        if fail:
            raise MemoryError("no room")
        return {"loss": torch.tensor(1.25)}

    engine = Engine(step)
    engine.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    for handler in (budget, history, ProgressBar(budget, history, enabled)):
        handler.attach(engine)
    engine.run(range(2), max_epochs=2)


def test_what_it_says(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, True)
    shown = capsys.readouterr().err
    last = shown.rstrip().rsplit("\r", 1)[-1]
    assert last.startswith("100%|")
    assert "loss 1.250, Dice 0.500" in shown
    assert "patches/s" in last
    assert "left" in last


def test_silent_without_a_terminal(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, None)
    assert capsys.readouterr().err == ""


def test_errors_pass_through(tmp_path: object) -> None:
    with pytest.raises(MemoryError, match="no room"):
        run(tmp_path, True, fail=True)
