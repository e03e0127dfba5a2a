"""Several methods on the same cases: one long table, its summary, paired tests and a ranking.

The long table has one row for each case, structure, method, number of labels and metric, with the columns of
:data:`COLUMNS`. A case that a method failed on is in it with the worst scores (see
:func:`atlaseg.pipeline.evaluation.scores.missing_prediction`), so that no method gains by failing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.evaluation.scores import Score
from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES, METRICS, statistic

__all__ = [
    "COLUMNS",
    "COMPARED",
    "RANKED",
    "case_means",
    "compare_methods",
    "holm",
    "long_table",
    "rank_methods",
    "score_rows",
    "summarise_methods",
]

#: Columns of the long table. ``labels`` is empty (``<NA>``) where a method had all training cases of its fold.
COLUMNS = ("case", "structure", "method", "fold", "labels", "metric", "value", "failed", "surface")

#: Metrics that methods are tested on against each other.
COMPARED = ("dice", "surface_dice", "hd95_mm", "assd_mm")

#: Metrics that the ranking is made of: one of volumes, one of surfaces, as in the BraTS challenges.
RANKED = ("dice", "hd95_mm")


def score_rows(
    scores: Iterable[Score], method: str, fold: int, labels: int | None, *, failed: bool = False
) -> list[dict[str, Any]]:
    """Rows of the long table for some scores of one method; a metric that a case does not define is ``None``."""
    return [
        {
            "case": score.case,
            "structure": score.structure,
            "method": method,
            "fold": fold,
            "labels": labels,
            "metric": metric,
            "value": getattr(score, metric),
            "failed": failed,
            "surface": score.surface,
        }
        for score in scores
        for metric in METRICS
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
    _surface(table)
    if np.isinf(table["value"]).any():
        row = table[np.isinf(table["value"])].iloc[0]
        raise DatasetError(f"case {row['case']}: {row['metric']} of {row['method']} is infinite")
    return table


def _surface(table: pd.DataFrame) -> str:
    """What surfaces are made of in all rows.

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
        metric: one of :data:`atlaseg.pipeline.evaluation.statistics.METRICS`.
    """
    rows = table[table["metric"] == metric]
    # the order of first appearance, which is the order that the methods were named in
    means = rows.pivot_table(index="case", columns="method", values="value", aggfunc="mean", sort=False)
    return means.dropna().sort_index()


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
    for (method, labels), group in _groups(table, ["method", "labels"]):
        structures = [(name, rows) for (name,), rows in _groups(group, ["structure"])]
        for structure, rows in [*structures, (ALL_STRUCTURES, group)]:
            failed = int(rows.loc[rows["failed"], "case"].nunique())
            for metric, bad in METRICS.items():
                means = rows[rows["metric"] == metric].groupby("case", sort=False)["value"].mean()
                values = [None if np.isnan(value) else float(value) for value in means]
                found = statistic(values, list(means.index), bad, resamples=resamples, seed=seed)
                if found is None:
                    continue
                low, high = found.interval or (None, None)
                results.append(
                    {
                        "method": method,
                        "labels": labels,
                        "structure": structure,
                        "metric": metric,
                        "mean": found.mean,
                        "median": found.median,
                        "sd": found.sd,
                        "low": low,
                        "high": high,
                        "worst": found.worst,
                        "worst_case": found.worst_case,
                        "n": found.n,
                        "failed": failed,
                        "surface": _surface(table),
                    }
                )
    return pd.DataFrame(results).astype({"labels": "Int64"})


def compare_methods(table: pd.DataFrame, metrics: Sequence[str] = COMPARED) -> pd.DataFrame:
    """Paired Wilcoxon signed-rank tests of all pairs of methods, on the cases' means over structures.

    Two-sided; cases without a difference are dropped, as Wilcoxon did, and without any difference p is 1
    (Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1, 1945, 80-83, 10.2307/3001968).
    Holm's correction is over all pairs of one metric and one number of labels.

    Returns:
        Columns labels, metric, method_a, method_b, n, difference (mean of a minus mean of b), p, p_holm, surface; no
        rows where there is one method only.
    """
    results: list[dict[str, Any]] = []
    for (labels,), group in _groups(table, ["labels"]):
        for metric in metrics:
            means = case_means(group, metric)
            pairs = list(combinations(means.columns, 2)) if len(means) else []
            p_values = [_wilcoxon(means[a] - means[b]) for a, b in pairs]
            for (a, b), p, corrected in zip(pairs, p_values, holm(p_values), strict=True):
                results.append(
                    {
                        "labels": labels,
                        "metric": metric,
                        "method_a": a,
                        "method_b": b,
                        "n": len(means),
                        "difference": float((means[a] - means[b]).mean()),
                        "p": p,
                        "p_holm": float(corrected),
                        "surface": _surface(table),
                    }
                )
    columns = ["labels", "metric", "method_a", "method_b", "n", "difference", "p", "p_holm", "surface"]
    return pd.DataFrame(results, columns=columns).astype({"labels": "Int64"})


def _wilcoxon(differences: pd.Series[Any]) -> float:
    from scipy.stats import wilcoxon

    values = differences.to_numpy(dtype=np.float64)
    # sums of the same numbers in another order differ in the last bits: no difference of methods
    values = values[np.abs(values) > 1e-12]
    return 1.0 if len(values) == 0 else float(wilcoxon(values).pvalue)


def holm(p_values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Correct p values for being several, by Holm's step-down procedure.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6,
    1979, 65-70.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    # the smallest is multiplied by their number, the next by one less, ...; never lower than the one before
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)) if len(p) else p
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def rank_methods(table: pd.DataFrame, metrics: Sequence[str] = RANKED) -> pd.DataFrame:
    """Rank methods as challenges do: in each case first, then aggregated.

    In every case the methods are ranked by each metric's mean over the structures (1 is best, ties share the mean
    of their ranks); a method's rank is the mean over metrics and cases. Ranking first and aggregating then is not
    swayed by a few cases with large differences (Maier-Hein et al., Why rankings of biomedical image analysis
    competitions should be interpreted with care, Nature Communications 9, 5217, 2018, 10.1038/s41467-018-07619-7).

    Returns:
        Columns labels, method, rank, one ``rank_METRIC`` for each metric, n (cases), surface; best first.

    Raises:
        DatasetError: a metric has no better and worse.
    """
    if unfit := [metric for metric in metrics if METRICS.get(metric) not in ("low", "high")]:
        raise DatasetError(
            f"metric {unfit[0]!r} cannot be ranked; take one whose best values are low or high"
        )
    results: list[dict[str, Any]] = []
    for (labels,), group in _groups(table, ["labels"]):
        ranks = {m: case_means(group, m).rank(axis=1, ascending=METRICS[m] == "high") for m in metrics}
        together = reduce(pd.DataFrame.add, ranks.values()) / len(ranks)
        for method, rank in together.mean().sort_values(kind="stable").items():
            of_metrics = {f"rank_{metric}": float(ranks[metric][method].mean()) for metric in metrics}
            results.append(
                {
                    "labels": labels,
                    "method": method,
                    "rank": float(rank),
                    **of_metrics,
                    "n": len(together),
                    "surface": _surface(table),
                }
            )
    columns = ["labels", "method", "rank", *(f"rank_{metric}" for metric in metrics), "n", "surface"]
    return pd.DataFrame(results, columns=columns).astype({"labels": "Int64"})


def _groups(table: pd.DataFrame, columns: list[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Groups in order of first appearance; cases without a number of labels are a group too."""
    return [(tuple(key), rows) for key, rows in table.groupby(columns, sort=False, dropna=False)]
