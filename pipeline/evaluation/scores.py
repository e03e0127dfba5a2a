"""Scores of one case: a row for each structure, with a note where a structure is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import DatasetError, GeometryError
from atlaseg.pipeline.evaluation.overlap import (
    channel_indices,
    check_comparable,
    confusion_of_indices,
    overlap_scores,
)
from atlaseg.pipeline.evaluation.surface import Surface, SurfaceScores, field_of_view_mm, surface_scores

__all__ = [
    "BOTH_EMPTY",
    "PREDICTION_EMPTY",
    "PREDICTION_MISSING",
    "REFERENCE_EMPTY",
    "CaseScores",
    "Score",
    "compare_case",
    "missing_prediction",
    "score_case",
    "surface_of",
]

Note = Literal["", "both empty", "prediction empty", "reference empty", "prediction missing"]

BOTH_EMPTY: Note = "both empty"
PREDICTION_EMPTY: Note = "prediction empty"
REFERENCE_EMPTY: Note = "reference empty"
PREDICTION_MISSING: Note = "prediction missing"


@dataclass(frozen=True)
class Score:
    """One structure of one case; the fields are the columns of the table, in order.

    Args:
        case: case name.
        structure: structure name.
        value: its label value.
        dice: in [0, 1], as the next four; see :mod:`atlaseg.pipeline.evaluation.overlap`.
        iou: intersection over union.
        precision: positive predictive value.
        recall: sensitivity.
        accuracy: share of the grid's voxels on which both maps agree about this structure.
        volume_reference_ml: volume in the reference.
        volume_prediction_ml: volume in the prediction.
        volume_difference_ml: prediction minus reference.
        volume_difference_percent: the same in percent of the reference; ``None`` where only the prediction
            has the structure, because a percentage of nothing has no value.
        hd95_mm: 95th percentile of the Hausdorff distance, see :mod:`atlaseg.pipeline.evaluation.surface`.
        assd_mm: average symmetric surface distance.
        surface_dice: surface Dice at the tolerance.
        surface: what surfaces are made of in the three scores before.
        note: which map lacks the structure, so that the rule for empty structures holds; else ``""``.
    """

    case: str
    structure: str
    value: int
    dice: float
    iou: float
    precision: float
    recall: float
    accuracy: float
    volume_reference_ml: float
    volume_prediction_ml: float
    volume_difference_ml: float
    volume_difference_percent: float | None
    hd95_mm: float
    assd_mm: float
    surface_dice: float
    surface: Surface = "voxels"
    note: Note = ""


@dataclass(frozen=True, eq=False)
class CaseScores:
    """Scores of one case and the confusion matrix they come from.

    Args:
        scores: one for each structure, in the order of the label table, without the background.
        confusion: ``(K, K)`` voxel counts, rows the reference, columns the prediction.
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

    >>> labels = LabelTable.from_names({"left": 1, "right": 3})
    >>> reference = np.zeros((6, 6, 6), int)
    >>> reference[1:4, 1:4, 1:4] = 1
    >>> scores = score_case(reference, reference, labels, (1, 1, 2))
    >>> [(s.structure, s.dice, s.hd95_mm, s.note) for s in scores]
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
    surfaces = _surfaces(found, truth, confusion, spacing, tolerance_mm, surface)
    overlap = overlap_scores(confusion)
    voxel_ml = float(np.prod(np.asarray(spacing, dtype=float))) / 1000.0
    scores = []
    for k in range(1, len(labels)):
        volumes = overlap.reference_voxels[k] * voxel_ml, overlap.prediction_voxels[k] * voxel_ml
        scores.append(
            Score(
                case=case,
                structure=labels.names[k],
                value=labels.values[k],
                dice=float(overlap.dice[k]),
                iou=float(overlap.iou[k]),
                precision=float(overlap.precision[k]),
                recall=float(overlap.recall[k]),
                accuracy=float(overlap.accuracy[k]),
                volume_reference_ml=float(volumes[0]),
                volume_prediction_ml=float(volumes[1]),
                volume_difference_ml=float(volumes[1] - volumes[0]),
                volume_difference_percent=_percent(*volumes),
                hd95_mm=surfaces[k - 1].hd95_mm,
                assd_mm=surfaces[k - 1].assd_mm,
                surface_dice=surfaces[k - 1].surface_dice,
                surface=surface,
                note=_note(*volumes),
            )
        )
    return CaseScores(tuple(scores), confusion)


def missing_prediction(
    reference: npt.NDArray[Any],
    labels: LabelTable,
    spacing: Sequence[float],
    *,
    case: str = "",
    surface: Surface = "voxels",
) -> list[Score]:
    """The worst scores, for a case that was asked for and not segmented.

    Every structure counts as missed, also one that the reference does not have: a file that is not there says
    nothing about it.
    """
    _check(reference, reference, spacing)
    sizes = np.bincount(channel_indices(reference, labels).ravel(order="K"), minlength=len(labels))
    voxel_ml = float(np.prod(np.asarray(spacing, dtype=float))) / 1000.0
    worst = field_of_view_mm(reference.shape, spacing)
    return [
        Score(
            case=case,
            structure=labels.names[k],
            value=labels.values[k],
            dice=0.0,
            iou=0.0,
            precision=0.0,
            recall=0.0,
            accuracy=0.0,
            volume_reference_ml=float(sizes[k] * voxel_ml),
            volume_prediction_ml=0.0,
            volume_difference_ml=-float(sizes[k] * voxel_ml),
            volume_difference_percent=_percent(float(sizes[k]), 0.0),
            hd95_mm=worst,
            assd_mm=worst,
            surface_dice=0.0,
            surface=surface,
            note=PREDICTION_MISSING,
        )
        for k in range(1, len(labels))
    ]


def surface_of(scores: Iterable[Score]) -> Surface:
    """What surfaces are made of in scores; one thing in all of them, or means of them would mean nothing.

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


def _surfaces(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    confusion: npt.NDArray[np.int64],
    spacing: Sequence[float],
    tolerance_mm: float,
    surface: Surface,
) -> list[SurfaceScores]:
    """Surface scores of structures ``1..K-1``, each inside the box that holds it in both maps."""
    from scipy.ndimage import find_objects

    K = len(confusion)
    worst = field_of_view_mm(reference.shape, spacing)
    # Along an axis of one voxel every voxel would be surface: a single slice is scored in its plane.
    kept = [axis for axis, n in enumerate(reference.shape) if n > 1] or list(range(reference.ndim))
    plane = tuple(reference.shape[axis] for axis in kept)
    prediction, reference = prediction.reshape(plane), reference.reshape(plane)
    sizes = [spacing[axis] for axis in kept]
    boxes = zip(find_objects(prediction, K - 1), find_objects(reference, K - 1), strict=True)
    results = []
    for k, (a, b) in enumerate(boxes, start=1):
        box = _union(a, b)
        results.append(
            surface_scores(prediction[box] == k, reference[box] == k, sizes, tolerance_mm, worst, surface)
        )
    return results


def _union(a: tuple[slice, ...] | None, b: tuple[slice, ...] | None) -> tuple[slice, ...]:
    """Smallest box around two boxes; ``None`` is a box of nothing."""
    if a is None or b is None:
        return a or b or (slice(0, 0),)
    return tuple(slice(min(i.start, j.start), max(i.stop, j.stop)) for i, j in zip(a, b, strict=True))


def _percent(reference: float, prediction: float) -> float | None:
    if reference > 0:
        return float(100.0 * (prediction - reference) / reference)
    return 0.0 if prediction == 0 else None


def _note(reference: float, prediction: float) -> Note:
    if reference > 0:
        return "" if prediction > 0 else PREDICTION_EMPTY
    return REFERENCE_EMPTY if prediction > 0 else BOTH_EMPTY
