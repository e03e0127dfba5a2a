"""Rank methods as segmentation challenges do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import pandas as pd

from atlaseg.pipeline.evaluation.long_table import case_means, groups_of, table_surface
from atlaseg.pipeline.evaluation.metrics import ranked_metrics

__all__ = ["rank_methods"]


def rank_methods(table: pd.DataFrame, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """Rank methods as challenges do: in each case first, then aggregated.

    In every case the methods are ranked by each metric's mean over the structures (1 is best, ties share the mean
    of their ranks); a method's rank is the mean over metrics and cases. Ranking first and aggregating then is not
    swayed by a few cases with large differences (Maier-Hein et al., Why rankings of biomedical image analysis
    competitions should be interpreted with care, Nature Communications 9, 5217, 2018, 10.1038/s41467-018-07619-7).

    Args:
        table: long table.
        metrics: their names, by default those that the table of metrics marks: Dice and HD95.

    Returns:
        Columns labels, method, rank, one ``rank_METRIC`` for each metric, n (cases), surface; best first.

    Raises:
        OptionError: a metric is not known or has no better and worse end.
    """
    by = {metric.name: metric for metric in ranked_metrics(metrics)}
    results: list[dict[str, Any]] = []
    for (labels,), group in groups_of(table, ["labels"]):
        ranks = {
            name: case_means(group, name).rank(axis=1, ascending=metric.better == "low")
            for name, metric in by.items()
        }
        together = reduce(pd.DataFrame.add, ranks.values()) / len(ranks)
        for method, rank in together.mean().sort_values(kind="stable").items():
            of_metrics = {f"rank_{metric}": float(ranks[metric][method].mean()) for metric in by}
            results.append(
                {
                    "labels": labels,
                    "method": method,
                    "rank": float(rank),
                    **of_metrics,
                    "n": len(together),
                    "surface": table_surface(table),
                }
            )
    columns = ["labels", "method", "rank", *(f"rank_{metric}" for metric in by), "n", "surface"]
    return pd.DataFrame(results, columns=columns).astype({"labels": "Int64"})
