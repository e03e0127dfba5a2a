"""Progress bar of training."""

from __future__ import annotations

import math
import sys
from typing import Never

from ignite.engine import Engine, Events
from tqdm import tqdm

from atlaseg.pipeline.progress import ProgressDisplay
from atlaseg.pipeline.training.budget import Budget
from atlaseg.pipeline.training.history import History

__all__ = ["ProgressBar"]


class ProgressBar:
    """Handler that shows loss, validation Dice, patches per second and time left on a terminal.

    Where standard error is not a terminal (a SLURM log, CI) a line every half minute says the same.

    Args:
        budget: what is 100 percent.
        history: has the figures.
        enabled: ``None`` looks whether standard error is a terminal.
    """

    def __init__(self, budget: Budget, history: History, enabled: bool | None = None) -> None:
        self.budget = budget
        self.history = history
        self.enabled = sys.stderr.isatty() if enabled is None else enabled
        self._bar: tqdm[Never] | None = None
        self._lines = ProgressDisplay("training", 1.0, terminal=False)

    def attach(self, engine: Engine) -> None:
        """Open with the engine, advance with every step, close with the engine."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _open(self, _engine: Engine) -> None:
        self._bar = tqdm(
            total=100,
            disable=not self.enabled,
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
            desc="training",
            dynamic_ncols=True,
            leave=True,
        )

    def _advance(self, _engine: Engine) -> None:
        if self._bar is None:
            return
        scores = self.history.validations
        dice = f", Dice {scores[-1][1]:.3f}" if scores else ""
        left = self.budget.remaining
        clock = "--:--" if math.isnan(left) else f"{int(left) // 60}:{int(left) % 60:02d}"
        speed = f"{self.history.patches_per_second:.1f} patches/s"
        figures = f"loss {self.history.recent_loss:.3f}{dice}, {speed}, {clock} left"
        if self._bar.disable:
            self._lines.show(self.budget.fraction, note=figures)
            return
        self._bar.set_description_str(figures, refresh=False)
        self._bar.n = round(100 * self.budget.fraction)
        self._bar.update(0)

    def _close(self, _engine: Engine) -> None:
        if self._bar is not None:
            self._bar.n = round(100 * self.budget.fraction)
            self._bar.close()

    def _fail(self, engine: Engine, error: Exception) -> None:
        self._close(engine)
        raise error
