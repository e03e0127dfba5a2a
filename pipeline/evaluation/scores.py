"""Scores of one case: a row for each structure, with a note where a structure is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import DatasetError, GeometryError
from atlaseg.pipeline.evaluation.confusion_matrix import (
    channel_indices,
    check_comparable,
    confusion_of_indices,
)
from atlaseg.pipeline.evaluation.mask_pair import MaskPair, mask_pairs
from atlaseg.pipeline.evaluation.metrics import METRICS
from atlaseg.pipeline.evaluation.surface import Surface

__all__ = [
    "CaseScores",
    "Note",
    "Score",
    "compare_case",
    "missing_prediction",
    "score_case",
    "score_columns",
    "surface_of",
]

Note = Literal["", "both empty", "prediction empty", "reference empty", "prediction missing"]

_BEFORE, _AFTER = ("case", "structure", "value"), ("surface", "note")


@dataclass(frozen=True)
class Score:
    """One structure of one case; ``score["dice"]`` is one of its numbers.

    Args:
        case: case name.
        structure: structure name.
        value: its label value.
        numbers: of each metric of :data:`atlaseg.pipeline.evaluation.metrics.METRICS`, ``None`` where it has no value.
        surface: what surfaces are made of.
        note: which map lacks the structure, so that the rule for empty structures holds; else ``""``.
    """

    case: str
    structure: str
    value: int
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    surface: Surface = "voxels"
    note: Note = ""

    def __getitem__(self, metric: str) -> float | None:
        """The number of a metric; ``None`` where it has no value, or was not there when the case was scored."""
        return self.numbers.get(metric)

    def as_row(self) -> dict[str, Any]:
        """Everything by column, in the order of :func:`score_columns`."""
        row = {**vars(self), **self.numbers}
        return {name: row[name] for name in (*_BEFORE, *self.numbers, *_AFTER)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Score:
        """The score of which :meth:`as_row` gave the row; what surfaces are made of may be absent, as once it was."""
        numbers = {name: value for name, value in row.items() if name not in (*_BEFORE, *_AFTER)}
        rest = {name: row[name] for name in (*_BEFORE, *_AFTER) if name in row}
        return cls(numbers=numbers, **rest)


def score_columns() -> tuple[str, ...]:
    """Columns of a table of scores, a row for each case and structure."""
    return (*_BEFORE, *METRICS.names(), *_AFTER)


@dataclass(frozen=True, eq=False)
class CaseScores:
    """Scores of one case and the confusion matrix they come from.

    Args:
        scores: one for each structure, in the order of the label table, without the background.
        confusion: ``(K, K)`` voxel counts, rows the reference, columns the prediction; all 0 without a prediction.
    """

    scores: tuple[Score, ...]
    confusion: npt.NDArray[np.int64]


def score_case(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    labels: LabelTable,
    spacing: Sequence[float],
    tolerance_mm: float = 1.0,
    *,
    case: str = "",
    surface: Surface = "voxels",
) -> list[Score]:
    """Scores of every structure of one case, the background left out.

    Args:
        prediction: label values, ``(*spatial)``, integers.
        reference: label values of the same shape, on the same grid.
        labels: label values and structure names.
        spacing: voxel size in mm along each axis of the arrays.
        tolerance_mm: of the surface Dice.
        case: case name for the rows.
        surface: what surfaces are made of, see :mod:`atlaseg.pipeline.evaluation.surface`.

    Raises:
        GeometryError: the shapes differ, or the spacing does not fit them.
        LabelError: a map holds a value that the table does not have.
        OptionError: the tolerance is negative or not finite.

    >>> labels = LabelTable.from_names({"left": 1, "right": 3})
    >>> reference = np.zeros((6, 6, 6), int)
    >>> reference[1:4, 1:4, 1:4] = 1
    >>> scores = score_case(reference, reference, labels, (1, 1, 2))
    >>> [(s.structure, s["dice"], s["hd95_mm"], s.note) for s in scores]
    [('left', 1.0, 0.0, ''), ('right', 1.0, 0.0, 'both empty')]
    """
    compared = compare_case(prediction, reference, labels, spacing, tolerance_mm, case=case, surface=surface)
    return list(compared.scores)


def compare_case(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    labels: LabelTable,
    spacing: Sequence[float],
    tolerance_mm: float = 1.0,
    *,
    case: str = "",
    surface: Surface = "voxels",
) -> CaseScores:
    """As :func:`score_case`, with the confusion matrix; arguments and errors are the same."""
    _check(prediction, reference, spacing)
    found, truth = channel_indices(prediction, labels), channel_indices(reference, labels)
    confusion = confusion_of_indices(found, truth, len(labels))
    pairs = mask_pairs(found, truth, confusion, spacing, tolerance_mm, surface)
    return CaseScores(_scores(pairs, labels, case), confusion)


def missing_prediction(
    reference: npt.NDArray[Any],
    labels: LabelTable,
    spacing: Sequence[float],
    *,
    case: str = "",
    surface: Surface = "voxels",
) -> CaseScores:
    """The worst scores, for a case without a prediction.

    Every structure counts as missed, also one that the reference does not have: a file that is not there says
    nothing about it.
    """
    _check(reference, reference, spacing)
    truth, K = channel_indices(reference, labels), len(labels)
    confusion = np.zeros((K, K), np.int64)
    sizes = confusion.copy()
    sizes[:, 0] = np.bincount(truth.ravel(order="K"), minlength=K)
    pairs = mask_pairs(None, truth, sizes, spacing, surface=surface)
    return CaseScores(_scores(pairs, labels, case), confusion)


def _scores(pairs: Iterable[MaskPair], labels: LabelTable, case: str) -> tuple[Score, ...]:
    metrics = METRICS.rows()
    return tuple(
        Score(
            case=case,
            structure=labels.names[pair.label],
            value=labels.values[pair.label],
            numbers={metric.name: metric.compute(pair) for metric in metrics},
            surface=pair.surface,
            note=_note(pair),
        )
        for pair in pairs
    )


def surface_of(scores: Iterable[Score]) -> Surface:
    """Definition of surfaces in scores, which must be the same in all of them.

    Raises:
        DatasetError: voxels in some and elements in others.
    """
    found = {score.surface for score in scores}
    if len(found) > 1:
        raise DatasetError(
            f"surfaces are made of {' in some scores and of '.join(sorted(found))} in others; score all cases alike"
        )
    return next(iter(found), "voxels")


def _check(prediction: npt.NDArray[Any], reference: npt.NDArray[Any], spacing: Sequence[float]) -> None:
    check_comparable(prediction, reference)
    if len(spacing) != reference.ndim or not all(0 < s < np.inf for s in spacing):
        raise GeometryError(
            f"spacing {tuple(spacing)} must be {reference.ndim} positive numbers, one for each axis"
        )


def _note(pair: MaskPair) -> Note:
    if pair.found is None:
        return "prediction missing"
    if pair.reference_voxels:
        return "" if pair.prediction_voxels else "prediction empty"
    return "reference empty" if pair.prediction_voxels else "both empty"
