"""Learning rate: its default, and schedules that follow the budget, whether in epochs or in minutes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from atlaseg.pipeline.errors import OptionError

if TYPE_CHECKING:
    from ignite.engine import Engine
    from torch.optim import Optimizer

    from atlaseg.pipeline.training.budget import Budget

__all__ = ["LEARNING_RATE", "SCHEDULES", "WARMUP", "LearningRateSchedule", "learning_rate_factor"]

#: Highest learning rate, unless a plan sets another: the usual one of AdamW for a U-Net with instance normalisation.
LEARNING_RATE = 1e-3
#: Share of the budget in which the rate rises linearly at first, unless a plan sets another.
WARMUP = 0.03

SCHEDULES = ("poly", "cosine", "plateau", "constant")
#: Of the ``poly`` schedule (Chen et al., DeepLab, IEEE TPAMI 40(4), 2018; the one nnU-Net uses).
POLY_POWER = 0.9
#: Validations without a better score before ``plateau`` halves the learning rate.
PLATEAU_PATIENCE = 5


def learning_rate_factor(schedule: str, fraction: float, warmup: float) -> float:
    """Factor of the highest learning rate after a share of the budget.

    Args:
        schedule: one of :data:`SCHEDULES`; ``plateau`` is constant here, its reductions come on top.
        fraction: used share of the budget, 0 to 1.
        warmup: share of the budget in which the rate rises linearly (Goyal et al., arXiv:1706.02677, 2017).

    Raises:
        OptionError: no such schedule.

    >>> [round(learning_rate_factor("cosine", f, 0.0), 3) for f in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    >>> learning_rate_factor("poly", 0.05, 0.1)
    0.5
    """
    if schedule not in SCHEDULES:
        raise OptionError(f"no schedule {schedule!r}; choose one of {', '.join(SCHEDULES)}")
    if fraction < warmup:
        # never exactly zero, so that the very first step already moves the weights
        return max(fraction / warmup, 1e-3)
    progress = (fraction - warmup) / (1.0 - warmup) if warmup < 1.0 else 1.0
    if schedule == "poly":
        return (1.0 - progress) ** POLY_POWER
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0


class LearningRateSchedule:
    """Handler that sets the learning rate before every step.

    Args:
        optimizer: whose rate is set.
        budget: measures how far training is.
        schedule: one of :data:`SCHEDULES`.
        learning_rate: the highest.
        warmup: share of the budget.
    """

    def __init__(
        self, optimizer: Optimizer, budget: Budget, schedule: str, learning_rate: float, warmup: float
    ) -> None:
        learning_rate_factor(schedule, 0.0, warmup)  # refuses an unknown name now
        self.optimizer = optimizer
        self.budget = budget
        self.schedule = schedule
        self.learning_rate = learning_rate
        self.warmup = warmup
        self._reduction = 1.0
        self._best = -math.inf
        self._waited = 0

    def attach(self, engine: Engine) -> None:
        """Set the rate at the start of every iteration."""
        from ignite.engine import Events

        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, _engine: Engine) -> None:
        factor = learning_rate_factor(self.schedule, self.budget.fraction, self.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor * self._reduction

    def validated(self, score: float) -> None:
        """Halve the rate when ``plateau`` has waited long enough for a better validation score."""
        if self.schedule != "plateau":
            return
        if score > self._best:
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited >= PLATEAU_PATIENCE:
            self._reduction *= 0.5
            self._waited = 0

    def state_dict(self) -> dict[str, Any]:
        """State of ``plateau``; the other schedules follow from the budget."""
        return {"reduction": self._reduction, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of :meth:`state_dict`."""
        self._reduction = float(state["reduction"])
        self._best = float(state["best"])
        self._waited = int(state["waited"])
