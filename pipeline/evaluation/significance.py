"""Paired significance tests between methods on the same cases, corrected for multiple comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atlaseg.pipeline.evaluation.long_table import case_means, groups_of, table_surface
from atlaseg.pipeline.evaluation.metrics import tested_metrics

__all__ = ["compare_methods", "holm"]


def compare_methods(table: pd.DataFrame) -> pd.DataFrame:
    """Paired Wilcoxon signed-rank tests of all pairs of methods, on the cases' means over structures.

    For each of :func:`~atlaseg.pipeline.evaluation.metrics.tested_metrics`.

    Two-sided; cases without a difference are dropped, as Wilcoxon did, and without any difference p is 1
    (Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1, 1945, 80-83, 10.2307/3001968).
    Holm's correction is over all pairs of one metric and one number of labels.

    Returns:
        Columns labels, metric, method_a, method_b, n, difference (mean of a minus mean of b), p, p_holm, surface; no
        rows where there is one method only.
    """
    results: list[dict[str, Any]] = []
    for (labels,), group in groups_of(table, ["labels"]):
        for metric in tested_metrics():
            means = case_means(group, metric.name)
            pairs = list(combinations(means.columns, 2)) if len(means) else []
            p_values = [_wilcoxon(means[a] - means[b]) for a, b in pairs]
            for (a, b), p, corrected in zip(pairs, p_values, holm(p_values), strict=True):
                results.append(
                    {
                        "labels": labels,
                        "metric": metric.name,
                        "method_a": a,
                        "method_b": b,
                        "n": len(means),
                        "difference": float((means[a] - means[b]).mean()),
                        "p": p,
                        "p_holm": float(corrected),
                        "surface": table_surface(table),
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
    """Correct p values for multiple comparisons by Holm's step-down procedure.

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
