"""Summaries of methods against those of their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atlaseg.pipeline.evaluation.long_table import long_table, score_rows
from atlaseg.pipeline.evaluation.method_summary import summarise_methods
from atlaseg.pipeline.evaluation.metrics import METRICS
from atlaseg.pipeline.evaluation.scores import Score
from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES, summarise


def score(case: str, dice: float, structure: str = "liver", **changes: Any) -> Score:
    surface = changes.pop("surface", "voxels")
    values = dict.fromkeys(METRICS.names(), dice) | {"hd95_mm": 10 * (1 - dice), "assd_mm": 5 * (1 - dice)}
    return Score(case, structure, 1, {**values, **changes}, surface=surface)


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
