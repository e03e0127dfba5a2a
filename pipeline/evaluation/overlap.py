"""Overlap of two label maps, every score from one confusion matrix.

Where a structure is empty, 0/0 is decided and not computed: absent from both maps is full agreement (1),
absent from one of them is none (0). The reasons and sources are in ``docs/explanation/scores.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import GeometryError

__all__ = ["Overlap", "confusion_matrix", "confusion_of_indices", "mean_dice", "overlap_scores"]

_SLAB_VOXELS = 1 << 18


@dataclass(frozen=True, eq=False)
class Overlap:
    """Overlap scores of ``K`` labels, background first; every array is ``(K,)``, scores lie in [0, 1].

    Args:
        dice: ``2 TP / (2 TP + FP + FN)`` (Dice 1945).
        iou: intersection over union, ``TP / (TP + FP + FN)`` (Jaccard 1912).
        precision: ``TP / (TP + FP)``, positive predictive value.
        recall: ``TP / (TP + FN)``, sensitivity.
        accuracy: ``(TP + TN) / voxels``; near 1 for anything small, because it counts the background.
        reference_voxels: size of the structure in the reference.
        prediction_voxels: size of the structure in the prediction.
    """

    dice: npt.NDArray[np.float64]
    iou: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    reference_voxels: npt.NDArray[np.int64]
    prediction_voxels: npt.NDArray[np.int64]


def confusion_matrix(
    prediction: npt.NDArray[Any], reference: npt.NDArray[Any], labels: LabelTable
) -> npt.NDArray[np.int64]:
    """How many voxels of each reference label got each predicted label.

    Args:
        prediction: label values, ``(*spatial)``, integers.
        reference: label values of the same shape.
        labels: the ``K`` label values.

    Returns:
        ``(K, K)`` voxel counts; rows are the reference, columns the prediction, in the order of ``labels``.

    Raises:
        GeometryError: the maps differ in shape or have no voxels.
        LabelError: a map holds a value that the table does not have.

    >>> labels = LabelTable.from_values([1, 4])
    >>> confusion_matrix(np.array([0, 1, 4, 4]), np.array([0, 1, 1, 4]), labels)
    array([[1, 0, 0],
           [0, 1, 1],
           [0, 0, 1]])
    """
    check_comparable(prediction, reference)
    return confusion_of_indices(
        channel_indices(prediction, labels), channel_indices(reference, labels), len(labels)
    )


def check_comparable(prediction: npt.NDArray[Any], reference: npt.NDArray[Any]) -> None:
    """Raise :class:`GeometryError` unless two maps have the same shape, and voxels."""
    if prediction.shape != reference.shape:
        raise GeometryError(
            f"prediction has shape {prediction.shape}, reference {reference.shape}: resample one to the other"
        )
    if reference.size == 0:
        raise GeometryError(f"label maps of shape {reference.shape} hold no voxels to compare")


def channel_indices(label_map: npt.NDArray[Any], labels: LabelTable) -> npt.NDArray[Any]:
    """Label values -> channel indices in the smallest integer type; a large CT in int64 fills the memory."""
    indices = np.empty_like(label_map, dtype=np.min_scalar_type(len(labels) - 1))
    for slab in _slabs(label_map):
        indices[slab] = labels.to_indices(label_map[slab])
    return indices


def confusion_of_indices(
    prediction: npt.NDArray[Any], reference: npt.NDArray[Any], K: int
) -> npt.NDArray[np.int64]:
    """:func:`confusion_matrix` of channel indices ``0..K-1``, one pass over the voxels."""
    counts = np.zeros(K * K, dtype=np.int64)
    for slab in _slabs(reference):
        pairs = reference[slab].astype(np.int64) * K + prediction[slab]
        counts += np.bincount(pairs.ravel(order="K"), minlength=K * K)
    return counts.reshape(K, K)


def _slabs(array: npt.NDArray[Any]) -> Iterator[tuple[slice, ...]]:
    """Pieces that lie together in memory, NIfTI's order of axes or C's, so that temporaries stay small."""
    axis = int(np.argmax(np.abs(array.strides)))
    step = max(1, _SLAB_VOXELS * array.shape[axis] // array.size)
    for start in range(0, array.shape[axis], step):
        yield (*(slice(None),) * axis, slice(start, start + step))


def overlap_scores(confusion: npt.NDArray[np.int64]) -> Overlap:
    """Overlap scores of each label from a confusion matrix.

    Definitions as in Taha and Hanbury, BMC Medical Imaging 15:29 (2015), doi:10.1186/s12880-015-0068-x.

    Args:
        confusion: ``(K, K)`` voxel counts, rows the reference, columns the prediction.

    >>> scores = overlap_scores(np.array([[6, 1], [1, 2]]))
    >>> float(scores.dice[1]), float(scores.iou[1]), float(scores.accuracy[1])
    (0.666..., 0.5, 0.8)
    """
    both = np.diagonal(confusion).astype(np.int64)
    reference = confusion.sum(axis=1, dtype=np.int64)
    prediction = confusion.sum(axis=0, dtype=np.int64)
    voxels = confusion.sum(dtype=np.int64)
    absent = (reference == 0) & (prediction == 0)
    return Overlap(
        dice=_ratio(2 * both, reference + prediction, absent),
        iou=_ratio(both, reference + prediction - both, absent),
        precision=_ratio(both, prediction, absent),
        recall=_ratio(both, reference, absent),
        accuracy=_ratio(voxels - reference - prediction + 2 * both, np.full_like(both, voxels), absent),
        reference_voxels=reference,
        prediction_voxels=prediction,
    )


def mean_dice(found: npt.NDArray[Any], truth: npt.NDArray[Any], K: int) -> float:
    """Mean Dice over the structures that the truth has; 0 where it has none.

    Args:
        found: channel indices ``(*spatial)``.
        truth: those of the reference, of the same shape.
        K: number of labels, background included.

    >>> truth = np.array([0, 1, 1, 0])
    >>> round(mean_dice(np.array([0, 1, 0, 2]), truth, 3), 3)  # of label 1 alone; 2 is not in the truth
    0.667
    """
    scores = overlap_scores(confusion_of_indices(found, truth, K))
    there = scores.reference_voxels[1:] > 0
    return float(scores.dice[1:][there].mean()) if there.any() else 0.0


def _ratio(
    part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64], absent: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """``part / whole``; 1 where a label is absent from both maps, 0 where only the division is empty."""
    ratio = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    ratio[absent] = 1.0
    return ratio
