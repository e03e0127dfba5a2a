"""History of training, one row per epoch: for learning curves, tracking and resumption."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from atlaseg.pipeline.errors import DivergenceError
from atlaseg.pipeline.io.files import write_text
from atlaseg.pipeline.training.budget import Budget

__all__ = ["History"]


class History:
    """Handler that keeps one row per epoch and writes them to a JSON file, whole or not at all.

    A row holds ``epoch``, ``iteration``, ``seconds`` (of training so far), ``loss`` (mean of the epoch), ``lr``,
    ``patches_per_second`` and, where the epoch was validated, ``val_dice`` and ``val_dice_<structure>``. The last
    row's numbers are also put into ``engine.state.metrics``, where tracking handlers look.

    Args:
        path: JSON file.
        budget: measures the elapsed time.
        batch_size: patches per iteration, of all processes together.
        writes: whether this process writes the file: the first of those that train together.

    Raises:
        DivergenceError: the loss is not finite any more; training on would only lose time.
    """

    def __init__(self, path: str | Path, budget: Budget, batch_size: int, writes: bool = True) -> None:
        self.path = Path(path)
        self.budget = budget
        self.batch_size = batch_size
        self.writes = writes
        self.rows: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._since = 0.0

    def attach(self, engine: Engine) -> None:
        """Collect losses, close a row after each epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.close_row)

    def _begin(self, _engine: Engine) -> None:
        self._losses = []
        self._since = self.budget.elapsed

    def _collect(self, engine: Engine) -> None:
        output = engine.state.output
        loss = float(output["loss"].detach())
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the loss became {loss} in epoch {engine.state.epoch}: lower training.learning_rate, or set "
                "training.precision to fp32"
            )
        self._losses.append(loss)

    @property
    def recent_loss(self) -> float:
        """Mean of the last 20 losses of this epoch."""
        recent = self._losses[-20:]
        return sum(recent) / len(recent) if recent else math.nan

    @property
    def patches_per_second(self) -> float:
        """Of this epoch so far."""
        return len(self._losses) * self.batch_size / max(self.budget.elapsed - self._since, 1e-9)

    def close_row(self, engine: Engine) -> None:
        """End the epoch's row; an epoch that the budget cut short has one too."""
        if not self._losses or (self.rows and self.rows[-1]["iteration"] == engine.state.iteration):
            return
        row = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "seconds": round(self.budget.elapsed, 2),
            "loss": sum(self._losses) / len(self._losses),
            "lr": max(group["lr"] for group in engine.optimizer.param_groups),
            "patches_per_second": round(self.patches_per_second, 3),
        }
        self.rows.append(row)
        self._publish(engine, row)

    def validated(self, engine: Engine, scores: dict[str, float]) -> None:
        """Add validation scores to the last row."""
        self.rows[-1].update(scores)
        self._publish(engine, self.rows[-1])

    def _publish(self, engine: Engine, row: dict[str, Any]) -> None:
        engine.state.metrics.update({k: v for k, v in row.items() if k not in ("epoch", "iteration")})
        if self.writes:
            write_text(self.path, json.dumps(self.rows, indent=1) + "\n")

    @property
    def validations(self) -> list[tuple[int, float]]:
        """Iteration and mean Dice of each validation."""
        return [(row["iteration"], row["val_dice"]) for row in self.rows if "val_dice" in row]

    def state_dict(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of :meth:`state_dict`."""
        self.rows = list(state["rows"])
