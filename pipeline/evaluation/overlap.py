"""Overlap of two masks: Dice, intersection over union, precision, recall and accuracy.

Definitions as in Taha and Hanbury, BMC Medical Imaging 15:29 (2015), doi:10.1186/s12880-015-0068-x. What holds where a
mask is empty stands in :mod:`atlaseg.pipeline.evaluation.metrics`.
"""

from __future__ import annotations

from atlaseg.pipeline.evaluation.mask_pair import MaskPair

__all__ = ["accuracy", "dice", "iou", "precision", "recall"]


def dice(pair: MaskPair) -> float:
    """``2 TP / (2 TP + FP + FN)`` (Dice 1945)."""
    return 2 * pair.both_voxels / (pair.reference_voxels + pair.prediction_voxels)


def iou(pair: MaskPair) -> float:
    """Intersection over union, ``TP / (TP + FP + FN)`` (Jaccard 1912)."""
    return pair.both_voxels / (pair.reference_voxels + pair.prediction_voxels - pair.both_voxels)


def precision(pair: MaskPair) -> float:
    """``TP / (TP + FP)``, positive predictive value."""
    return pair.both_voxels / pair.prediction_voxels


def recall(pair: MaskPair) -> float:
    """``TP / (TP + FN)``, sensitivity."""
    return pair.both_voxels / pair.reference_voxels


def accuracy(pair: MaskPair) -> float:
    """``(TP + TN) / voxels`` of the whole grid; near 1 for anything small, because it counts the background."""
    agreed = pair.voxels - pair.reference_voxels - pair.prediction_voxels + 2 * pair.both_voxels
    return agreed / pair.voxels
