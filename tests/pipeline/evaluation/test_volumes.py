"""Volumes against SimpleITK's, and what their difference is where a map lacks the structure."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.evaluation.scores import missing_prediction, score_case

LABELS = LabelTable.from_names({"a": 3})
SPACING = (0.5, 0.75, 4.0)


def volume_ml(mask):
    """By SimpleITK, whose arrays count axes the other way round."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8).T)
    image.SetSpacing(SPACING)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.Execute(image)
    return shapes.GetPhysicalSize(1) / 1000


def test_volumes_are_those_of_simpleitk():
    rng = np.random.default_rng(0)
    prediction, reference = 3 * (rng.random((2, 9, 8, 7)) < [[[[0.3]]], [[[0.6]]]])
    (score,) = score_case(prediction, reference, LABELS, SPACING)
    found, truth = volume_ml(prediction == 3), volume_ml(reference == 3)
    assert score["volume_reference_ml"] == pytest.approx(truth)
    assert score["volume_prediction_ml"] == pytest.approx(found)
    assert score["volume_difference_ml"] == pytest.approx(found - truth)
    assert score["volume_difference_percent"] == pytest.approx(100 * (found / truth - 1))


def test_percent_of_nothing_has_no_value():
    empty, some = np.zeros((4, 4, 4), int), np.full((4, 4, 4), 3)
    percents = [
        score_case(*maps, LABELS, SPACING)[0]["volume_difference_percent"]
        for maps in ((empty, empty), (some, empty), (empty, some))
    ]
    assert percents == [0, None, pytest.approx(-100)]
    gone = [missing_prediction(m, LABELS, SPACING).scores[0] for m in (empty, some)]
    assert [score["volume_difference_percent"] for score in gone] == [0, -100]
    assert gone[1]["volume_difference_ml"] == pytest.approx(-64 * 1.5 / 1000)
