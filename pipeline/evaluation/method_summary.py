"""Statistics of several methods over the cases, from their long table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atlaseg.pipeline.evaluation.long_table import groups_of, table_surface
from atlaseg.pipeline.evaluation.metrics import judged_metrics
from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES, statistic

__all__ = ["summarise_methods"]


def summarise_methods(table: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Statistics of each method, number of labels, structure and metric over the cases.

    After the structures comes :data:`~atlaseg.pipeline.evaluation.statistics.ALL_STRUCTURES`, where a case counts
    once with the mean over its structures.

    Args:
        table: long table.
        resamples: of each bootstrap.
        seed: of each bootstrap.

    Returns:
        Columns method, labels, structure, metric, mean, median, sd, low, high (95% percentile bootstrap interval of
        the mean), worst, worst_case, n (cases with a value), failed (cases that failed), surface. ``sd`` and the
        interval are empty for a single case.
    """
    results = []
    for (method, labels), group in groups_of(table, ["method", "labels"]):
        structures = [(name, rows) for (name,), rows in groups_of(group, ["structure"])]
        for structure, rows in [*structures, (ALL_STRUCTURES, group)]:
            failed = int(rows.loc[rows["failed"], "case"].nunique())
            for metric in judged_metrics():
                means = rows[rows["metric"] == metric.name].groupby("case", sort=False)["value"].mean()
                values = [None if np.isnan(value) else float(value) for value in means]
                found = statistic(values, list(means.index), metric.better, resamples=resamples, seed=seed)
                if found is None:
                    continue
                low, high = found.interval or (None, None)
                results.append(
                    {
                        "method": method,
                        "labels": labels,
                        "structure": structure,
                        "metric": metric.name,
                        "mean": found.mean,
                        "median": found.median,
                        "sd": found.sd,
                        "low": low,
                        "high": high,
                        "worst": found.worst,
                        "worst_case": found.worst_case,
                        "n": found.n,
                        "failed": failed,
                        "surface": table_surface(table),
                    }
                )
    return pd.DataFrame(results).astype({"labels": "Int64"})
