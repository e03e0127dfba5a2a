"""Exponential moving average of the weights."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Handler that keeps an exponential moving average of a network's weights (torch's ``AveragedModel``).

    In the first steps the average forgets faster, so that it does not drag the random initial weights along
    (the correction of TensorFlow's ``ExponentialMovingAverage``): decay ``min(decay, (1 + n) / (10 + n))``.

    Args:
        network: being trained.
        decay: per step, such as 0.999; ``None`` keeps no average, and :attr:`module` is the network itself.
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        self.network = network
        self.decay = decay
        self._average = None if decay is None else AveragedModel(network, use_buffers=True)

    @property
    def module(self) -> nn.Module:
        """The network to validate and to keep."""
        return self.network if self._average is None else self._average.module

    def attach(self, engine: Engine) -> None:
        """Update after every step."""
        if self._average is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)

    def _update(self, engine: Engine) -> None:
        if self._average is None or self.decay is None:
            return
        n = engine.state.iteration
        update: Any = get_ema_multi_avg_fn  # torch leaves it untyped
        self._average.multi_avg_fn = update(min(self.decay, (1 + n) / (10 + n)))
        self._average.update_parameters(self.network)

    def state_dict(self) -> dict[str, object]:
        """Weights of the average, empty where none is kept."""
        return {} if self._average is None else self._average.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore a state of :meth:`state_dict`."""
        if self._average is not None:
            self._average.load_state_dict(state)
