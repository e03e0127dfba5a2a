"""The ranking of methods against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.evaluation.long_table import long_table, score_rows
from atlaseg.pipeline.evaluation.metrics import METRICS
from atlaseg.pipeline.evaluation.ranking import rank_methods
from atlaseg.pipeline.evaluation.scores import Score


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


def test_ranking_by_hand() -> None:
    # a wins twice, b once by far: the mean favours b, the ranking a
    table = table_of({"b": [0.50, 0.50, 0.90], "a": [0.51, 0.51, 0.30], "c": [0.10, 0.51, 0.10]})
    found = rank_methods(table)
    assert list(found["method"]) == ["a", "b", "c"]
    np.testing.assert_allclose(found["rank"], [(1 + 1.5 + 2) / 3, (2 + 3 + 1) / 3, (3 + 1.5 + 3) / 3])
    np.testing.assert_allclose(found["rank_dice"], found["rank_hd95_mm"])
    with pytest.raises(OptionError, match="cannot be ranked"):
        rank_methods(table, ["volume_difference_ml"])


def test_ranked_by_what_is_asked_for() -> None:
    scores = {
        "a": [score(n, 0.9, assd_mm=2.0) for n in "xy"],
        "b": [score(n, 0.5, assd_mm=1.0) for n in "xy"],
    }
    table = long_table(row for name, of in scores.items() for row in score_rows(of, name, 0, None))
    assert list(rank_methods(table)["method"]) == ["a", "b"]
    found = rank_methods(table, ["assd_mm"])
    assert list(found["method"]) == ["b", "a"]
    assert list(found.columns) == ["labels", "method", "rank", "rank_assd_mm", "n", "surface"]
    with pytest.raises(OptionError, match="no metric 'dise'"):
        rank_methods(table, ["dise"])
