"""Learning rate: its default, and schedules that follow the budget, whether in epochs or in minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atlaseg.pipeline.registry import Registry, Row

if TYPE_CHECKING:
    from ignite.engine import Engine
    from torch.optim import Optimizer

    from atlaseg.pipeline.training.budget import Budget

__all__ = [
    "LEARNING_RATE",
    "SCHEDULES",
    "WARMUP",
    "LearningRateSchedule",
    "ScheduleRow",
    "learning_rate_factor",
]

#: Highest learning rate, unless a plan sets another: the usual one of AdamW for a U-Net with instance normalisation.
LEARNING_RATE = 1e-3
#: Share of the budget in which the rate rises linearly at first, unless a plan sets another.
WARMUP = 0.03

#: Validations without a better score before ``plateau`` halves the learning rate.
PLATEAU_PATIENCE = 5


#: Of the ``poly`` schedule.
POLY_POWER = 0.9


@dataclass(frozen=True)
class ScheduleRow(Row):
    """A schedule; ``target`` takes the share of the budget after the warm-up, 0 to 1, and gives the factor.

    Args:
        ends_low: the rate falls to zero, so that the last weights are the best; otherwise the best validated are kept.
        halves_on_plateau: validations without a better score halve the rate as well.
    """

    ends_low: bool = field(default=True, kw_only=True)
    halves_on_plateau: bool = field(default=False, kw_only=True)


_HERE = "atlaseg.pipeline.training.learning_rate"

#: Names that ``TrainingPlan.schedule`` may have.
SCHEDULES: Registry[ScheduleRow] = Registry(
    "schedule",
    ScheduleRow,
    (
        ScheduleRow(
            "poly",
            "falls almost linearly, as nnU-Net's; the default",
            f"{_HERE}:poly",
            source="Chen et al., DeepLab, IEEE TPAMI 40(4), 2018, https://doi.org/10.1109/TPAMI.2017.2699184",
        ),
        ScheduleRow(
            "cosine",
            "falls as half a cosine",
            f"{_HERE}:cosine",
            source="Loshchilov and Hutter, ICLR 2017, https://arxiv.org/abs/1608.03983",
        ),
        ScheduleRow(
            "plateau",
            "stays, and is halved where validations stop getting better",
            f"{_HERE}:constant",
            ends_low=False,
            halves_on_plateau=True,
        ),
        ScheduleRow("constant", "stays", f"{_HERE}:constant", ends_low=False),
    ),
    group="atlaseg.schedules",
)


def poly(progress: float) -> float:
    """(1 - progress) to the power of 0.9.

    >>> poly(0.0), poly(1.0)
    (1.0, 0.0)
    """
    return float((1.0 - progress) ** POLY_POWER)


def cosine(progress: float) -> float:
    """Half a cosine.

    >>> round(cosine(0.5), 3)
    0.5
    """
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def constant(_progress: float) -> float:
    """One.

    >>> constant(0.3)
    1.0
    """
    return 1.0


def learning_rate_factor(schedule: str, fraction: float, warmup: float) -> float:
    """Factor of the highest learning rate after a share of the budget.

    Args:
        schedule: one of :data:`SCHEDULES`; ``plateau`` is constant here, its
            reductions come on top.
        fraction: used share of the budget, 0 to 1.
        warmup: share of the budget in which the rate rises linearly (Goyal et al., arXiv:1706.02677, 2017).

    Raises:
        OptionError: no such schedule.

    >>> [round(learning_rate_factor("cosine", f, 0.0), 3) for f in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    >>> learning_rate_factor("poly", 0.05, 0.1)
    0.5
    """
    row = SCHEDULES.find(schedule)
    if fraction < warmup:
        # never exactly zero, so that the very first step already moves the weights
        return max(fraction / warmup, 1e-3)
    progress = (fraction - warmup) / (1.0 - warmup) if warmup < 1.0 else 1.0
    return float(row.load()(progress))


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
        if not SCHEDULES.find(self.schedule).halves_on_plateau:
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
