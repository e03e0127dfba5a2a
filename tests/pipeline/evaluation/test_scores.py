"""Rows of a case: label values with gaps, volumes, empty structures, single slices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import GeometryError, LabelError
from atlaseg.pipeline.evaluation.scores import (
    Score,
    compare_case,
    missing_prediction,
    score_case,
    score_columns,
)

LABELS = LabelTable.from_names({"left": 2, "right": 21, "absent": 40})
SPACING = (1.0, 2.0, 5.0)


def make(shape=(16, 12, 10)):
    reference = np.zeros(shape, np.int64)
    reference[2:8, 2:8, 2:6] = 2
    reference[9:14, 2:8, 2:6] = 21
    return reference


def numbers(score):
    return [number for number in score.numbers.values() if number is not None]


def test_known_shift():
    reference = make()
    prediction = np.roll(reference, 1, axis=2)
    left, right, absent = score_case(prediction, reference, LABELS, SPACING, tolerance_mm=1, case="a")
    assert [s.value for s in (left, right, absent)] == [2, 21, 40]
    assert left.case == "a"
    assert left["dice"] == pytest.approx(0.75)  # 3 of 4 slices overlap
    assert left["iou"] == pytest.approx(0.6)
    assert left["volume_reference_ml"] == pytest.approx(6 * 6 * 4 * 10 / 1000)
    assert left["volume_difference_ml"] == 0
    # the top face's inner voxels lie 5 mm over the other's, or 1 to 4 mm from its side walls, at most 5
    assert 0 < left["hd95_mm"] <= 5
    assert left.note == ""
    assert right["dice"] == pytest.approx(0.75)
    assert (absent["dice"], absent["hd95_mm"], absent["surface_dice"], absent.note) == (1, 0, 1, "both empty")
    assert absent["volume_difference_percent"] == 0


def test_one_map_lacks_the_structure():
    reference = make()
    prediction = np.where(reference == 21, 0, reference)
    prediction[0, 0, 0] = 40
    left, right, absent = score_case(prediction, reference, LABELS, SPACING)
    diagonal = math.sqrt(16**2 + 24**2 + 50**2)
    assert left["dice"] == 1
    assert right.note == "prediction empty"
    assert (right["dice"], right["iou"], right["precision"], right["recall"], right["surface_dice"]) == (
        0,
        0,
        0,
        0,
        0,
    )
    assert right["hd95_mm"] == right["assd_mm"] == pytest.approx(diagonal)
    assert right["volume_difference_percent"] == -100
    assert absent.note == "reference empty"
    assert (absent["dice"], absent["hd95_mm"]) == (0, pytest.approx(diagonal))
    assert absent["volume_difference_percent"] is None
    assert absent["volume_difference_ml"] == pytest.approx(0.01)


def test_every_number_is_finite():
    rng = np.random.default_rng(0)
    values = np.array([0, 2, 21])
    for _ in range(5):
        pair = rng.choice(values, (2, 3, 4, 5), p=[0.9, 0.08, 0.02])
        for score in score_case(*pair, LABELS, SPACING):
            assert np.isfinite(numbers(score)).all()


def test_confusion_comes_with_the_scores():
    reference = make()
    result = compare_case(reference, reference, LABELS, SPACING)
    assert result.confusion.sum() == reference.size
    np.testing.assert_array_equal(result.confusion, np.diag(np.diag(result.confusion)))


def test_missing_prediction_is_worst_for_every_structure():
    scores = missing_prediction(make(), LABELS, SPACING, case="a").scores
    assert {s.note for s in scores} == {"prediction missing"}
    assert all(s["dice"] == s["accuracy"] == s["surface_dice"] == 0 for s in scores)
    assert all(s["hd95_mm"] == pytest.approx(math.sqrt(16**2 + 24**2 + 50**2)) for s in scores)
    assert scores[0]["volume_difference_percent"] == -100


def test_single_slice_is_scored_in_its_plane():
    disc = np.zeros((20, 20, 1), np.int64)
    disc[4:16, 4:16] = 2
    smaller = np.zeros_like(disc)
    smaller[7:13, 7:13] = 2
    flat = score_case(smaller[..., 0], disc[..., 0], LABELS, (1, 1))[0]
    thick = score_case(smaller, disc, LABELS, (1, 1, 5))[0]
    assert thick["hd95_mm"] == flat["hd95_mm"] > 0
    assert (
        thick["assd_mm"] == flat["assd_mm"] > 2.5
    )  # as volume, inner voxels would count as surface at distance 0


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # inside the package
def test_surfaces_are_made_of_what_is_asked_for():
    import surface_distance

    reference = np.zeros((20, 18, 16), int)
    reference[4:14, 4:12, 4:12] = 3
    prediction = np.roll(reference, 1, axis=0)
    (voxels,), (elements,) = (
        score_case(prediction, reference, LabelTable.from_names({"a": 3}), (1, 2, 3), 0.5, surface=surface)
        for surface in ("voxels", "elements")
    )
    assert (voxels.surface, elements.surface) == ("voxels", "elements")
    found = surface_distance.compute_surface_distances(reference == 3, prediction == 3, (1, 2, 3))
    assert elements["hd95_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(found, 95))
    expected = surface_distance.compute_surface_dice_at_tolerance(found, 0.5)
    assert elements["surface_dice"] == pytest.approx(expected, rel=1e-5)
    assert elements["dice"] == voxels["dice"]
    assert elements["assd_mm"] != voxels["assd_mm"]
    labels = LabelTable.from_names({"a": 3})
    assert (
        missing_prediction(reference, labels, (1, 2, 3), surface="elements").scores[0].surface == "elements"
    )


def test_inputs_are_not_changed():
    reference = make()
    prediction = np.roll(reference, 1, axis=0)
    copies = prediction.copy(), reference.copy()
    score_case(prediction, reference, LABELS, SPACING)
    np.testing.assert_array_equal(prediction, copies[0])
    np.testing.assert_array_equal(reference, copies[1])


def test_refuses_what_does_not_fit():
    with pytest.raises(GeometryError, match="resample"):
        score_case(make(), make((16, 12, 11)), LABELS, SPACING)
    with pytest.raises(GeometryError, match="spacing"):
        score_case(make(), make(), LABELS, (1.0, 1.0))
    with pytest.raises(LabelError, match="5"):
        score_case(np.full((2, 2, 2), 5), np.zeros((2, 2, 2), int), LABELS, SPACING)


def test_a_row_holds_all_of_a_score_in_the_order_of_the_columns():
    for score in score_case(np.roll(make(), 1, axis=0), make(), LABELS, SPACING, case="a"):
        row = score.as_row()
        assert tuple(row) == score_columns()
        assert Score.from_row(row) == score
    # as it stands in a benchmark of version 0.1 from before surfaces had a name
    old = {name: value for name, value in row.items() if name != "surface"}
    assert Score.from_row(old) == score
    assert Score.from_row({**old, "dice": 0.25})["dice"] == 0.25
    assert score["no such metric"] is None
