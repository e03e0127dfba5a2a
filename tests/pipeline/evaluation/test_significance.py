"""Tests of methods against each other: against brute force and scipy."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from atlaseg.pipeline.evaluation.long_table import long_table, score_rows
from atlaseg.pipeline.evaluation.metrics import METRICS
from atlaseg.pipeline.evaluation.scores import Score
from atlaseg.pipeline.evaluation.significance import compare_methods, holm


def score(case: str, dice: float, structure: str = "liver", **changes: Any) -> Score:
    surface = changes.pop("surface", "voxels")
    values = dict.fromkeys(METRICS.names(), dice) | {"hd95_mm": 10 * (1 - dice), "assd_mm": 5 * (1 - dice)}
    return Score(case, structure, 1, {**values, **changes}, surface=surface)


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
