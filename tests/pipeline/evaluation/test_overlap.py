"""Overlap against SimpleITK and MONAI, counting by hand, and invariants of set overlap."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import ConfusionMatrixMetric, compute_dice, compute_iou

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.evaluation.scores import score_case

VALUES = (0, 1, 4, 255)
LABELS = LabelTable.from_values(VALUES)
NAMES = ("dice", "iou", "precision", "recall", "accuracy")


def label_maps(shape=(5, 4, 3)):
    return arrays(np.int64, shape, elements=st.sampled_from(VALUES))


def random_pair(seed=0, shape=(12, 11, 10)):
    rng = np.random.default_rng(seed)
    reference = rng.choice(VALUES, shape)
    return np.where(rng.random(shape) < 0.6, reference, rng.choice(VALUES, shape)), reference


def scores_of(prediction, reference):
    """Rows of the structures; hypothesis draws maps of at most three axes."""
    return score_case(prediction, reference, LABELS, (1.0,) * reference.ndim)


def test_agrees_with_simpleitk():
    prediction, reference = random_pair()
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(sitk.GetImageFromArray(reference), sitk.GetImageFromArray(prediction))
    for score in scores_of(prediction, reference):
        assert score["dice"] == pytest.approx(measure.GetDiceCoefficient(score.value), abs=1e-12)
        assert score["iou"] == pytest.approx(measure.GetJaccardCoefficient(score.value), abs=1e-12)


def test_agrees_with_monai():
    prediction, reference = random_pair(1)
    for score in scores_of(prediction, reference):
        masks = [torch.from_numpy(m == score.value)[None, None].float() for m in (prediction, reference)]
        assert score["dice"] == pytest.approx(compute_dice(*masks).item(), rel=1e-6)
        assert score["iou"] == pytest.approx(compute_iou(*masks).item(), rel=1e-6)
        for name in ("precision", "recall", "accuracy"):
            metric = ConfusionMatrixMetric(metric_name=name)
            metric(*masks)
            assert score[name] == pytest.approx(metric.aggregate()[0].item(), rel=1e-6)


def test_agrees_with_counting():
    prediction, reference = random_pair(1)
    for score in scores_of(prediction, reference):
        p, r = prediction == score.value, reference == score.value
        assert score["precision"] == pytest.approx((p & r).sum() / p.sum())
        assert score["recall"] == pytest.approx((p & r).sum() / r.sum())
        assert score["accuracy"] == pytest.approx((p == r).mean())


@settings(max_examples=25, deadline=None)
@given(label_maps(), label_maps())
def test_invariants(a, b):
    for one, other in zip(scores_of(a, b), scores_of(b, a), strict=True):
        assert one["dice"] == pytest.approx(other["dice"])
        assert one["iou"] == pytest.approx(one["dice"] / (2 - one["dice"]))
        assert one["precision"] == pytest.approx(other["recall"])
        assert all(0 <= one[name] <= 1 for name in NAMES)


@settings(max_examples=10, deadline=None)
@given(label_maps())
def test_identical_maps_score_one(a):
    for score in scores_of(a, a):
        assert [score[name] for name in NAMES] == [1] * 5


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [(0, 0, 1.0), (4, 0, 0.0), (0, 4, 0.0)],
    ids=["both", "ref", "pred"],
)
def test_empty_masks(prediction, reference, expected):
    score = scores_of(np.full(8, prediction), np.full(8, reference))[1]
    assert [score[name] for name in NAMES] == [*[expected] * 4, float(prediction == reference)]
