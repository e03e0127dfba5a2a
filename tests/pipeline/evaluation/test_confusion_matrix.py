"""Confusion matrices against counting by hand, and Dice from them against SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import GeometryError, LabelError
from atlaseg.pipeline.evaluation.confusion_matrix import confusion_matrix, dice_of_labels, mean_dice

VALUES = (0, 1, 4, 255)
LABELS = LabelTable.from_values(VALUES)


def random_pair(seed=0, shape=(12, 11, 10)):
    rng = np.random.default_rng(seed)
    reference = rng.choice(VALUES, shape)
    return np.where(rng.random(shape) < 0.6, reference, rng.choice(VALUES, shape)), reference


def test_rows_are_the_reference():
    confusion = confusion_matrix(np.array([4, 4, 4, 0]), np.array([1, 1, 4, 0]), LABELS)
    assert confusion[1, 2] == 2
    assert confusion[2, 1] == 0
    assert confusion.sum() == 4


def test_memory_order_and_size_do_not_matter():
    prediction, reference = random_pair(2, (70, 80, 60))  # more voxels than one slab
    expected = confusion_matrix(prediction, reference, LABELS)
    mixed = confusion_matrix(np.asfortranarray(prediction), reference, LABELS)
    both = confusion_matrix(np.asfortranarray(prediction), np.asfortranarray(reference), LABELS)
    small = confusion_matrix(prediction.astype(np.uint8), reference.astype(np.uint8), LABELS)
    pairs = {(r, p): n for r, p, n in zip(*np.nonzero(expected), expected[expected > 0], strict=True)}
    for (r, p), n in pairs.items():
        assert n == ((reference == VALUES[r]) & (prediction == VALUES[p])).sum()
    for other in (mixed, both, small):
        np.testing.assert_array_equal(other, expected)


def test_refuses_other_shape_unknown_value_and_nothing():
    with pytest.raises(GeometryError, match="resample"):
        confusion_matrix(np.zeros((2, 3), int), np.zeros((3, 2), int), LABELS)
    with pytest.raises(LabelError, match="7"):
        confusion_matrix(np.full((2, 2), 7), np.zeros((2, 2), int), LABELS)
    with pytest.raises(GeometryError, match="no voxels"):
        confusion_matrix(np.zeros((0, 2), int), np.zeros((0, 2), int), LABELS)


def test_dice_of_labels_and_their_mean_agree_with_simpleitk():
    prediction, reference = random_pair(3)
    prediction, reference = (np.where(m == 255, 0, m) for m in (prediction, reference))
    found = dice_of_labels(confusion_matrix(prediction, reference, LABELS))
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(sitk.GetImageFromArray(reference), sitk.GetImageFromArray(prediction))
    expected = [measure.GetDiceCoefficient(value) for value in (1, 4)]
    np.testing.assert_allclose(found[1:3], expected)
    assert found[3] == 1  # 255 is in neither map
    indices = (LABELS.to_indices(m) for m in (prediction, reference))
    assert mean_dice(*indices, K=4) == pytest.approx(np.mean(expected))
    assert mean_dice(np.array([1, 0]), np.array([0, 0]), K=2) == 0
