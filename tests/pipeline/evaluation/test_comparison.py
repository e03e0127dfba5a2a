"""Comparison of methods: against brute force, scipy and figures worked out by hand."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.evaluation.comparison import (
    COLUMNS,
    case_means,
    compare_methods,
    holm,
    long_table,
    rank_methods,
    score_rows,
    summarise_methods,
)
from atlaseg.pipeline.evaluation.scores import Score
from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES, METRICS, summarise


def score(case: str, dice: float, structure: str = "liver", **changes: Any) -> Score:
    values = dict.fromkeys(METRICS, dice) | {"hd95_mm": 10 * (1 - dice), "assd_mm": 5 * (1 - dice)}
    volumes = {"volume_reference_ml": 1.0, "volume_prediction_ml": 1.0}
    return Score(case=case, structure=structure, value=1, **{**values, **volumes, **changes})


def table_of(dice: dict[str, list[float]], labels: int | None = None) -> pd.DataFrame:
    """One structure; a list of Dice, by case, for each method."""
    rows = [
        row
        for method, values in dice.items()
        for n, value in enumerate(values)
        for row in score_rows([score(f"c{n:02d}", value)], method, n % 2, labels)
    ]
    return long_table(rows)


@given(st.lists(st.floats(0, 1), max_size=5))
def test_holm_is_bonferroni_in_closed_testing(p: list[float]) -> None:
    """Holm's correction is the closure of Bonferroni's: the largest corrected p of all sets that hold a hypothesis."""
    everything = range(len(p))
    sets = list(chain.from_iterable(combinations(everything, size) for size in range(1, len(p) + 1)))
    expected = [
        max(min(1.0, len(chosen) * min(p[i] for i in chosen)) for chosen in sets if n in chosen)
        for n in everything
    ]
    np.testing.assert_allclose(holm(p), expected)


def test_long_table_and_failed_cases() -> None:
    table = long_table(score_rows([score("a", 0.0)], "m", 0, None, failed=True))
    assert tuple(table.columns) == COLUMNS
    assert len(table) == len(METRICS)
    assert table["failed"].all()
    assert table["labels"].isna().all()
    with pytest.raises(DatasetError, match="scored twice"):
        long_table(2 * score_rows([score("a", 0.5)], "m", 0, 5))
    with pytest.raises(DatasetError, match="infinite"):
        long_table(score_rows([score("a", np.inf)], "m", 0, 5))
    mixed = [*score_rows([score("a", 0.5)], "m", 0, 5)]
    mixed += score_rows([score("a", 0.5, surface="elements")], "other", 0, 5)
    with pytest.raises(DatasetError, match="surfaces are made of elements with other and of voxels"):
        long_table(mixed)


def test_every_table_says_what_surfaces_are_made_of() -> None:
    scores = [score(f"c{n}", dice, surface="elements") for n, dice in enumerate((0.5, 0.7, 0.6))]
    table = long_table(score_rows(scores, "m", 0, None) + score_rows(scores, "other", 0, None))
    for found in (table, summarise_methods(table), compare_methods(table), rank_methods(table)):
        assert set(found["surface"]) == {"elements"}


def test_summary_is_that_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    scores = [score(f"c{n}", rng.random(), s) for n in range(6) for s in ("liver", "lesion")]
    table = long_table(score_rows(scores, "m", 0, 10))
    found = summarise_methods(table)
    for expected in summarise(scores):
        rows = found[found["structure"] == expected.structure].set_index("metric")
        for metric, statistic in expected.metrics.items():
            row = rows.loc[metric]
            assert row["mean"] == pytest.approx(statistic.mean)
            assert row["median"] == pytest.approx(statistic.median)
            assert (row["low"], row["high"]) == pytest.approx(statistic.interval)
            assert (row["worst_case"], row["n"], row["failed"]) == (statistic.worst_case, 6, 0)
    assert list(found["structure"].unique()) == ["liver", "lesion", ALL_STRUCTURES]


def test_pairs_are_tested_as_scipy_does() -> None:
    rng = np.random.default_rng(1)
    values = {
        name: list(rng.random(12) * 0.5 + shift) for name, shift in (("a", 0.0), ("b", 0.2), ("c", 0.4))
    }
    found = compare_methods(table_of(values, labels=5))
    dice = found[found["metric"] == "dice"]
    assert list(zip(dice["method_a"], dice["method_b"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    for row in dice.to_dict("records"):
        a, b = np.array(values[row["method_a"]]), np.array(values[row["method_b"]])
        assert row["p"] == pytest.approx(stats.wilcoxon(a, b).pvalue)
        assert row["difference"] == pytest.approx(a.mean() - b.mean())
        assert row["n"] == 12
    np.testing.assert_allclose(dice["p_holm"], holm(list(dice["p"])))


def test_equal_methods_do_not_differ() -> None:
    found = compare_methods(table_of({"a": [0.5, 0.7], "b": [0.5, 0.7]}))
    assert set(found["p"]) == {1.0}
    assert set(found["p_holm"]) == {1.0}
    assert compare_methods(table_of({"a": [0.5]})).empty


def test_each_number_of_labels_is_its_own_family() -> None:
    few, many = table_of({"a": [0.1, 0.2], "b": [0.3, 0.5]}, 5), table_of({"a": [0.5, 0.6], "b": [0.4, 0.7]})
    found = compare_methods(pd.concat([few, many]))
    assert found["labels"].isna().sum() == (found["labels"] == 5).sum() == 4
    np.testing.assert_allclose(found["p"], found["p_holm"])


def test_ranking_by_hand() -> None:
    # a wins twice, b once by far: the mean favours b, the ranking a
    table = table_of({"b": [0.50, 0.50, 0.90], "a": [0.51, 0.51, 0.30], "c": [0.10, 0.51, 0.10]})
    found = rank_methods(table)
    assert list(found["method"]) == ["a", "b", "c"]
    np.testing.assert_allclose(found["rank"], [(1 + 1.5 + 2) / 3, (2 + 3 + 1) / 3, (3 + 1.5 + 3) / 3])
    np.testing.assert_allclose(found["rank_dice"], found["rank_hd95_mm"])
    with pytest.raises(DatasetError, match="cannot be ranked"):
        rank_methods(table, ["volume_difference_ml"])


def test_a_failure_costs_and_a_case_that_one_method_lacks_is_no_pair() -> None:
    good = score_rows([score("x", 0.9), score("y", 0.8)], "a", 0, None)
    bad = score_rows([score("x", 0.0, hd95_mm=99.0)], "b", 0, None, failed=True)
    table = long_table(good + bad)
    assert list(case_means(table, "dice").index) == ["x"]
    summary = summarise_methods(table)
    row = summary[(summary["method"] == "b") & (summary["metric"] == "dice")].iloc[0]
    assert (row["mean"], row["worst"], row["failed"]) == (0.0, 0.0, 1)
