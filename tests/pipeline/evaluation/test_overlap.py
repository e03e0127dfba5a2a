"""Overlap against SimpleITK, counting by hand, and invariants of set overlap."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import GeometryError, LabelError
from atlaseg.pipeline.evaluation.overlap import confusion_matrix, overlap_scores

VALUES = (0, 1, 4, 255)
LABELS = LabelTable.from_values(VALUES)


def label_maps(shape=(5, 4, 3)):
    return arrays(np.int64, shape, elements=st.sampled_from(VALUES))


def random_pair(seed=0, shape=(12, 11, 10)):
    rng = np.random.default_rng(seed)
    reference = rng.choice(VALUES, shape)
    return np.where(rng.random(shape) < 0.6, reference, rng.choice(VALUES, shape)), reference


def test_agrees_with_simpleitk():
    prediction, reference = random_pair()
    scores = overlap_scores(confusion_matrix(prediction, reference, LABELS))
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(sitk.GetImageFromArray(reference), sitk.GetImageFromArray(prediction))
    for k, value in enumerate(VALUES[1:], start=1):
        assert scores.dice[k] == pytest.approx(measure.GetDiceCoefficient(value), abs=1e-12)
        assert scores.iou[k] == pytest.approx(measure.GetJaccardCoefficient(value), abs=1e-12)


def test_agrees_with_counting():
    prediction, reference = random_pair(1)
    scores = overlap_scores(confusion_matrix(prediction, reference, LABELS))
    for k, value in enumerate(VALUES):
        p, r = prediction == value, reference == value
        assert scores.precision[k] == pytest.approx((p & r).sum() / p.sum())
        assert scores.recall[k] == pytest.approx((p & r).sum() / r.sum())
        assert scores.accuracy[k] == pytest.approx((p == r).mean())
        assert scores.reference_voxels[k] == r.sum()
        assert scores.prediction_voxels[k] == p.sum()


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


@settings(max_examples=50, deadline=None)
@given(label_maps(), label_maps())
def test_invariants(a, b):
    one = overlap_scores(confusion_matrix(a, b, LABELS))
    other = overlap_scores(confusion_matrix(b, a, LABELS))
    np.testing.assert_allclose(one.dice, other.dice)
    np.testing.assert_allclose(one.iou, one.dice / (2 - one.dice))
    np.testing.assert_allclose(one.precision, other.recall)
    for scores in (one.dice, one.iou, one.precision, one.recall, one.accuracy):
        assert np.isfinite(scores).all()
        assert scores.min() >= 0
        assert scores.max() <= 1


@settings(max_examples=20, deadline=None)
@given(label_maps())
def test_identical_maps_score_one(a):
    scores = overlap_scores(confusion_matrix(a, a, LABELS))
    for values in (scores.dice, scores.iou, scores.precision, scores.recall, scores.accuracy):
        np.testing.assert_array_equal(values, 1)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [(0, 0, 1.0), (4, 0, 0.0), (0, 4, 0.0)],
    ids=["both", "ref", "pred"],
)
def test_empty_masks(prediction, reference, expected):
    scores = overlap_scores(confusion_matrix(np.full(8, prediction), np.full(8, reference), LABELS))
    for values in (scores.dice, scores.iou, scores.precision, scores.recall):
        assert values[2] == expected


def test_refuses_other_shape_unknown_value_and_nothing():
    with pytest.raises(GeometryError, match="resample"):
        confusion_matrix(np.zeros((2, 3), int), np.zeros((3, 2), int), LABELS)
    with pytest.raises(LabelError, match="7"):
        confusion_matrix(np.full((2, 2), 7), np.zeros((2, 2), int), LABELS)
    with pytest.raises(GeometryError, match="no voxels"):
        confusion_matrix(np.zeros((0, 2), int), np.zeros((0, 2), int), LABELS)
