"""Training on all labelled cases that a fold offers, so that every method learns from the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atlaseg.workflows.train import Train

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Case, Dataset

__all__ = ["WholeFold"]


@dataclass(frozen=True)
class WholeFold(Train):
    """``atlaseg train`` that keeps no case for validation.

    A benchmark has test cases of its own. Were a network to keep a fifth of ten labelled cases back, it would learn
    from fewer than the atlases beside it. The first case also stands in for the validation that training reports;
    no weight depends on it, unless the plan asks for early stopping or a learning rate by plateau.
    """

    def split(self, dataset: Dataset, *, of_all: str = "") -> tuple[list[Case], list[Case]]:  # noqa: ARG002
        """All labelled cases to train on, and the first of them again."""
        cases = list(dataset.labelled)
        return cases, cases[:1]
