"""Choose after each validation which weights ``model.pt`` keeps, and stop early without improvement."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from atlaseg.pipeline.training.averaging import WeightAverage
from atlaseg.pipeline.training.checkpoint import save_torch_file
from atlaseg.pipeline.training.history import History
from atlaseg.pipeline.training.learning_rate import SCHEDULES, LearningRateSchedule

__all__ = ["ModelKeeper"]

logger = logging.getLogger(__name__)


class ModelKeeper:
    """Handler around validation: scores into the history, weights into ``model.pt``, early stopping.

    Schedules that fall to zero (``poly``, ``cosine``) end at their best weights, so ``model.pt`` holds the latest;
    picking the best of many noisy validations would flatter the score. With ``plateau``, ``constant`` or early
    stopping it holds the best validated ones.

    Args:
        path: of the weights (a plain state dict).
        evaluator: MONAI evaluator of the validation cases.
        average: whose :attr:`~WeightAverage.module` is validated and kept.
        history: gets the scores.
        schedule: gets the scores.
        structures: names of the structures, in the order of the channels, without the background.
        interval: epochs between validations.
        early_stopping: validations without a better score before training ends, or ``None``.
        metric: name of the evaluator's mean score.
        writes: whether this process writes the weights: the first of those that train together. All of them
            validate, since all must stop and lower the rate alike.
    """

    def __init__(
        self,
        path: str | Path,
        evaluator: Engine,
        average: WeightAverage,
        history: History,
        schedule: LearningRateSchedule,
        structures: Sequence[str],
        interval: int,
        early_stopping: int | None = None,
        metric: str = "val_mean_dice",
        writes: bool = True,
    ) -> None:
        self.path = Path(path)
        self.evaluator = evaluator
        self.average = average
        self.history = history
        self.schedule = schedule
        self.structures = tuple(structures)
        self.interval = interval
        self.early_stopping = early_stopping
        self.metric = metric
        self.writes = writes
        self.best = -math.inf
        self.waited = 0
        self.finished = False

    @property
    def keeps_best(self) -> bool:
        """Whether ``model.pt`` holds the best validated weights rather than the latest."""
        return self.early_stopping is not None or not SCHEDULES.find(self.schedule.schedule).ends_low

    def attach(self, engine: Engine) -> None:
        """Follow MONAI's ``ValidationHandler``, which must come first; validate once more at the end."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.validated)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def validated(self, engine: Engine) -> None:
        """Record the scores of the last validation, and save the weights if they are to be kept."""
        scores = self._scores()
        mean = scores["val_dice"]
        self.history.validated(engine, scores)
        self.schedule.validated(mean)
        self._say(
            "epoch %d  loss %.4f  validation Dice %.4f",
            engine.state.epoch,
            self.history.rows[-1]["loss"],
            mean,
        )
        better = mean > self.best
        self.best, self.waited = (mean, 0) if better else (self.best, self.waited + 1)
        if self.writes and (better or not self.keeps_best or not self.path.is_file()):
            self._save(self.average.module)
        if self.early_stopping is not None and self.waited >= self.early_stopping:
            self._say("Stopping early: no better Dice in %d validations.", self.waited)
            engine.terminate()

    def _say(self, message: str, *values: object) -> None:
        if self.writes:
            logger.info(message, *values)

    def _save(self, network: nn.Module) -> None:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        save_torch_file(self.path, weights)

    def _scores(self) -> dict[str, float]:
        """Dice per structure over the cases; a structure that truth and result both lack counts as 1."""
        per_case = self.evaluator.state.metric_details[self.metric]
        scores = {"val_dice": float(per_case.mean())}
        for name, column in zip(self.structures, per_case.T, strict=True):
            scores[f"val_dice_{name}"] = float(column.mean())
        return scores

    def _finish(self, engine: Engine) -> None:
        self.history.close_row(engine)
        if self.history.rows and "val_dice" not in self.history.rows[-1]:
            self.evaluator.run()
            self.validated(engine)
        self.finished = True

    def state_dict(self) -> dict[str, Any]:
        """Best score, patience used, and whether training has ended."""
        return {"best": self.best, "waited": self.waited, "finished": self.finished}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of :meth:`state_dict`."""
        self.best = float(state["best"])
        self.waited = int(state["waited"])
        self.finished = bool(state["finished"])
