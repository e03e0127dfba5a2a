"""The long table: its columns, failed cases, and what may not be in one table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.evaluation.long_table import COLUMNS, case_means, long_table, score_rows
from atlaseg.pipeline.evaluation.method_summary import summarise_methods
from atlaseg.pipeline.evaluation.metrics import METRICS, judged_metrics
from atlaseg.pipeline.evaluation.ranking import rank_methods
from atlaseg.pipeline.evaluation.scores import Score
from atlaseg.pipeline.evaluation.significance import compare_methods


def score(case: str, dice: float, structure: str = "liver", **changes: Any) -> Score:
    surface = changes.pop("surface", "voxels")
    values = dict.fromkeys(METRICS.names(), dice) | {"hd95_mm": 10 * (1 - dice), "assd_mm": 5 * (1 - dice)}
    return Score(case, structure, 1, {**values, **changes}, surface=surface)


def test_long_table_and_failed_cases() -> None:
    table = long_table(score_rows([score("a", 0.0)], "m", 0, None, failed=True))
    assert tuple(table.columns) == COLUMNS
    assert list(table["metric"]) == [metric.name for metric in judged_metrics()]
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


def test_a_failure_costs_and_a_case_that_one_method_lacks_is_no_pair() -> None:
    good = score_rows([score("x", 0.9), score("y", 0.8)], "a", 0, None)
    bad = score_rows([score("x", 0.0, hd95_mm=99.0)], "b", 0, None, failed=True)
    table = long_table(good + bad)
    assert list(case_means(table, "dice").index) == ["x"]
    summary = summarise_methods(table)
    row = summary[(summary["method"] == "b") & (summary["metric"] == "dice")].iloc[0]
    assert (row["mean"], row["worst"], row["failed"]) == (0.0, 0.0, 1)
