"""Confusion matrix of two label maps in voxels, from which overlap scores are computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import GeometryError

__all__ = [
    "channel_indices",
    "check_comparable",
    "confusion_matrix",
    "confusion_of_indices",
    "dice_of_labels",
    "mean_dice",
]

_SLAB_VOXELS = 1 << 18


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
    confusion = confusion_of_indices(found, truth, K)
    there = confusion.sum(axis=1)[1:] > 0
    return float(dice_of_labels(confusion)[1:][there].mean()) if there.any() else 0.0


def dice_of_labels(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Dice of each label ``(K,)`` of a confusion matrix ``(K, K)``; 1 for a label that is absent from both maps.

    >>> dice_of_labels(np.array([[6, 1], [1, 2]])).round(3).tolist()
    [0.857, 0.667]
    """
    both, sizes = np.diagonal(confusion), confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.divide(2 * both, sizes, out=np.ones(both.shape), where=sizes > 0)
