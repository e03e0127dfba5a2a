"""Training budget in epochs or minutes, kept through interruptions."""

from __future__ import annotations

import time
from typing import Any

from ignite.engine import Engine, Events

from atlaseg.pipeline.training.distributed import first_rank_value

__all__ = ["Budget"]


class Budget:
    """Handler that measures the used share of the training budget and ends training when it is used up.

    A budget in minutes counts the wall-clock time of the training loop, validation included; time between an
    interruption and the resumption does not count. The learning-rate schedule follows :attr:`fraction`. Processes
    that train together go by the clock of the first one, so that they keep one schedule and end with the same step.

    Args:
        epochs: number of epochs, or ``None``.
        minutes: wall-clock minutes, or ``None``. Exactly one of the two is given.
        iterations_per_epoch: optimizer steps per epoch.
    """

    #: What ``max_epochs`` of the trainer is when minutes are the budget: never reached.
    UNBOUNDED_EPOCHS = 1_000_000

    def __init__(self, epochs: int | None, minutes: float | None, iterations_per_epoch: int) -> None:
        if (epochs is None) == (minutes is None):
            raise ValueError("give either epochs or minutes")
        self.epochs = epochs
        self.minutes = minutes
        self.iterations_per_epoch = iterations_per_epoch
        self.iteration = 0
        self._before = 0.0
        self._started: float | None = None
        self._agreed = 0.0

    @property
    def max_epochs(self) -> int:
        """For the trainer."""
        return self.UNBOUNDED_EPOCHS if self.epochs is None else self.epochs

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, without interruptions."""
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    @property
    def fraction(self) -> float:
        """Share of the budget that is used, from 0 to 1; of minutes, as of the beginning or end of the last step."""
        if self.minutes is not None:
            return min(self._agreed / (60.0 * self.minutes), 1.0)
        return min(self.iteration / (self.max_epochs * self.iterations_per_epoch), 1.0)

    @property
    def remaining(self) -> float:
        """Estimated seconds until the end."""
        if self.minutes is not None:
            return max(60.0 * self.minutes - self._agreed, 0.0)
        return self.elapsed * (1.0 / self.fraction - 1.0) if self.fraction > 0 else float("nan")

    def attach(self, engine: Engine) -> None:
        """Start the clock with the engine, stop the engine when the budget is used."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._agree)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)

    def _start(self, _engine: Engine) -> None:
        self._started = time.monotonic()

    def _agree(self, _engine: Engine) -> None:
        if self.minutes is not None:
            self._agreed = first_rank_value(self.elapsed)

    def _count(self, engine: Engine) -> None:
        self.iteration = engine.state.iteration
        self._agree(engine)
        if self.minutes is not None and self.fraction >= 1.0:
            engine.terminate()

    def state_dict(self) -> dict[str, Any]:
        """The used part of the budget."""
        return {"elapsed": self.elapsed, "iteration": self.iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of :meth:`state_dict`."""
        self._before = self._agreed = float(state["elapsed"])
        self.iteration = int(state["iteration"])
