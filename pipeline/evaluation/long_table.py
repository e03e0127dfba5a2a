"""The long table of several methods: a row for each case, structure, method, number of labels and metric.

A case that a method failed on is in it with the worst scores (see
:func:`atlaseg.pipeline.evaluation.scores.missing_prediction`), so that no method gains by failing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.evaluation.metrics import judged_metrics
from atlaseg.pipeline.evaluation.scores import Score

__all__ = ["COLUMNS", "case_means", "groups_of", "long_table", "score_rows", "table_surface"]

#: Columns of the long table. ``labels`` is empty (``<NA>``) where a method had all training cases of its fold.
COLUMNS = ("case", "structure", "method", "fold", "labels", "metric", "value", "failed", "surface")


def score_rows(
    scores: Iterable[Score], method: str, fold: int, labels: int | None, *, failed: bool = False
) -> list[dict[str, Any]]:
    """Rows of the long table for some scores of one method; a metric that a case does not define is ``None``."""
    names = [metric.name for metric in judged_metrics()]
    return [
        {
            "case": score.case,
            "structure": score.structure,
            "method": method,
            "fold": fold,
            "labels": labels,
            "metric": metric,
            "value": score[metric],
            "failed": failed,
            "surface": score.surface,
        }
        for score in scores
        for metric in names
    ]


def long_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows of :func:`score_rows` as a table with fixed types, so that files of it are the same each time.

    Raises:
        DatasetError: a row comes twice, a value is infinite, or surfaces are of two definitions.
    """
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    table = table.astype({"fold": "int64", "labels": "Int64", "value": "float64", "failed": "bool"})
    repeated = table.duplicated(["case", "structure", "method", "labels", "metric"])
    if repeated.any():
        row = table[repeated].iloc[0]
        raise DatasetError(f"case {row['case']}: scored twice with {row['method']}; each case is tested once")
    table_surface(table)
    if np.isinf(table["value"]).any():
        row = table[np.isinf(table["value"])].iloc[0]
        raise DatasetError(f"case {row['case']}: {row['metric']} of {row['method']} is infinite")
    return table


def table_surface(table: pd.DataFrame) -> str:
    """Definition of surfaces in all rows.

    Raises:
        DatasetError: voxels in some rows and elements in others.
    """
    found = list(table["surface"].unique())
    if len(found) > 1:
        row = table[table["surface"] != found[0]].iloc[0]
        raise DatasetError(
            f"case {row['case']}: surfaces are made of {row['surface']} with {row['method']} and of {found[0]} "
            "elsewhere; score all alike"
        )
    return str(found[0]) if found else "voxels"


def case_means(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean of a metric over the structures of each case: a row for each case, a column for each method.

    Structures in which a case does not define the metric are left out of its mean. Only cases that every method
    has been through are rows, so that each column is over the same cases.

    Args:
        table: the rows of one number of labels.
        metric: name of a metric with better and worse values.
    """
    rows = table[table["metric"] == metric]
    # the order of first appearance, which is the order that the methods were named in
    means = rows.pivot_table(index="case", columns="method", values="value", aggfunc="mean", sort=False)
    return means.dropna().sort_index()


def groups_of(table: pd.DataFrame, columns: list[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Groups in order of first appearance; cases without a number of labels are a group too."""
    return [(tuple(key), rows) for key, rows in table.groupby(columns, sort=False, dropna=False)]
