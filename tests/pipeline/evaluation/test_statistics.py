"""Statistics over cases: bootstrap coverage, worst cases, and means that nothing drops out of in silence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.evaluation.metrics import judged_metrics
from atlaseg.pipeline.evaluation.scores import score_case
from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES, statistic, summarise


def rows():
    """Two structures, three cases, Dice 0.9 0.8 0.7 and 0.5 0.6 0.7."""
    labels = LabelTable.from_names({"a": 1, "b": 2})
    cube = np.zeros((6, 6, 6), int)
    cube[1:3, 1:3, 1:3], cube[4:, 4:, 4:] = 1, 2
    template = score_case(cube, cube, labels, (1, 1, 1))
    dice = {"x": (0.9, 0.5), "y": (0.8, 0.6), "z": (0.7, 0.7)}
    return [
        replace(template[k], case=c, numbers={**template[k].numbers, "dice": values[k]})
        for c, values in dice.items()
        for k in (0, 1)
    ]


def test_numbers_agree_with_numpy():
    values = np.random.default_rng(0).normal(0.8, 0.1, 25)
    result = statistic(values.tolist(), [str(i) for i in range(25)])
    assert result.mean == pytest.approx(values.mean())
    assert result.median == pytest.approx(np.median(values))
    assert result.sd == pytest.approx(values.std(ddof=1))
    assert result.worst == values.min()
    assert result.worst_case == str(values.argmin())


def test_interval_is_near_the_normal_one_and_seeded():
    values = np.random.default_rng(1).normal(0, 1, 400).tolist()
    names = [str(i) for i in range(400)]
    low, high = statistic(values, names).interval
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(400)
    assert low == pytest.approx(np.mean(values) - half, abs=0.015)
    assert high == pytest.approx(np.mean(values) + half, abs=0.015)
    assert statistic(values, names).interval == (low, high)
    assert statistic(values, names, seed=1).interval != (low, high)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    names = [str(i) for i in range(40)]
    hits = 0
    for _ in range(300):
        low, high = statistic(rng.exponential(1.0, 40).tolist(), names, resamples=400).interval
        hits += low <= 1 <= high
    assert 0.86 <= hits / 300 <= 0.98


def test_constant_and_single_values():
    same = statistic([0.5, 0.5, 0.5], ["a", "b", "c"])
    assert same.interval == (0.5, 0.5)
    assert same.sd == 0
    single = statistic([0.5], ["a"])
    assert (single.mean, single.interval, single.sd, single.n) == (0.5, None, None, 1)


def test_undefined_values_are_counted():
    result = statistic([10.0, None, -30.0], ["a", "b", "c"], "near 0")
    assert (result.n, result.undefined, result.mean) == (2, 1, -10)
    assert (result.worst, result.worst_case) == (-30, "c")
    assert statistic([None], ["a"]) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(bad):
    with pytest.raises(DatasetError, match="case b"):
        statistic([1.0, bad], ["a", "b"])


def test_all_structures_count_each_case_once():
    a, b, everything = summarise(rows())
    assert (a.structure, b.structure, everything.structure) == ("a", "b", ALL_STRUCTURES)
    assert a.metrics["dice"].mean == pytest.approx(0.8)
    assert b.metrics["dice"].worst_case == "x"
    total = everything.metrics["dice"]
    assert total.n == 3
    # case means are all 0.7, so there is no spread between cases, though there is between structures
    assert total.mean == pytest.approx(0.7)
    assert total.interval == pytest.approx((0.7, 0.7))
    assert set(a.metrics) == {metric.name for metric in judged_metrics()}


def test_interval_of_a_structure_does_not_depend_on_the_others():
    alone = summarise([row for row in rows() if row.structure == "b"])[0]
    assert alone.metrics == summarise(rows())[1].metrics


def test_notes_are_counted():
    marked = [replace(row, note="both empty") if row.case == "x" else row for row in rows()]
    a, _, everything = summarise(marked)
    assert a.notes == {"both empty": 1}
    assert everything.notes == {"both empty": 2}


def test_two_definitions_of_a_surface_are_not_averaged():
    mixed = [replace(row, surface="elements") if row.case == "x" else row for row in rows()]
    with pytest.raises(DatasetError, match="of elements in some scores and of voxels in others"):
        summarise(mixed)


def test_nothing_to_summarise():
    with pytest.raises(DatasetError, match="no case"):
        summarise([])
