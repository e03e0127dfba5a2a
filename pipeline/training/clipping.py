"""Gradient clipping between MONAI's backward pass and its optimizer step."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import IterationEvents

__all__ = ["GradientClipping"]


class GradientClipping:
    """Handler that limits the norm of the gradient (Pascanu et al., ICML 2013).

    Args:
        norm: largest 2-norm over all parameters, or ``None`` for no limit.
    """

    def __init__(self, norm: float | None) -> None:
        self.norm = norm

    def attach(self, engine: Engine) -> None:
        """Clip after each backward pass."""
        if self.norm is not None:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._clip)

    def _clip(self, engine: Any) -> None:
        if self.norm is None:
            return
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.norm)
