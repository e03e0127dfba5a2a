"""Volumes of a structure in reference and prediction, and their difference."""

from __future__ import annotations

from atlaseg.pipeline.evaluation.mask_pair import MaskPair

__all__ = ["difference_ml", "difference_percent", "prediction_ml", "reference_ml"]


def reference_ml(pair: MaskPair) -> float:
    """Volume in the reference."""
    return pair.reference_voxels * pair.voxel_ml


def prediction_ml(pair: MaskPair) -> float:
    """Volume in the prediction."""
    return pair.prediction_voxels * pair.voxel_ml


def difference_ml(pair: MaskPair) -> float:
    """Prediction minus reference."""
    if pair.found is None:
        return -reference_ml(pair)
    return prediction_ml(pair) - reference_ml(pair)


def difference_percent(pair: MaskPair) -> float | None:
    """The difference in percent of the reference.

    ``None`` where only the prediction has the structure, because a percentage of nothing has no value.
    """
    if pair.reference_voxels == 0:
        return 0.0 if pair.prediction_voxels == 0 else None
    if pair.found is None:
        return -100.0
    return 100.0 * (prediction_ml(pair) - reference_ml(pair)) / reference_ml(pair)
