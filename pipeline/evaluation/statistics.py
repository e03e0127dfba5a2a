"""Statistics over cases: mean with a bootstrap interval, median, spread and the worst case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.evaluation.metrics import Better, judged_metrics
from atlaseg.pipeline.evaluation.scores import Score, surface_of

__all__ = ["ALL_STRUCTURES", "Statistic", "Summary", "statistic", "summarise"]

ALL_STRUCTURES = "all structures"


@dataclass(frozen=True)
class Statistic:
    """One metric over the cases of one structure.

    Args:
        n: cases with a value.
        undefined: cases without one (a volume difference in percent of an empty reference).
        mean: over the ``n`` cases.
        median: over the ``n`` cases.
        sd: sample standard deviation (``n - 1``), ``None`` for one case.
        interval: 95% bootstrap interval of the mean, ``None`` for one case (``n`` too small).
        worst: the worst value.
        worst_case: the case it belongs to.
    """

    n: int
    undefined: int
    mean: float
    median: float
    sd: float | None
    interval: tuple[float, float] | None
    worst: float
    worst_case: str


@dataclass(frozen=True)
class Summary:
    """All metrics of one structure over the cases.

    Args:
        structure: its name, or :data:`ALL_STRUCTURES`.
        value: its label value, ``None`` for all structures together.
        metrics: statistic of each metric with better and worse values; one that no case defines is absent.
        notes: number of rows with each note (``{"prediction empty": 2}``).
    """

    structure: str
    value: int | None
    metrics: dict[str, Statistic]
    notes: dict[str, int]


def statistic(
    values: Sequence[float | None],
    cases: Sequence[str],
    better: Better = "high",
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Statistic | None:
    """Statistic of one metric, ``None`` where no case has a value.

    The interval is the percentile bootstrap over cases (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13), which is defined for constant values too, where BCa is not.

    Args:
        values: one per case, ``None`` where undefined.
        cases: their names.
        better: which values are; the worst is the other end, or what is farthest from 0.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same interval.

    Raises:
        DatasetError: a value is NaN or infinite.

    >>> result = statistic([0.9, 0.8, None], ["a", "b", "c"])
    >>> result.n, result.undefined, round(result.mean, 3), result.worst_case
    (2, 1, 0.85, 'b')
    >>> print(statistic([0.9], ["a"]).interval)
    None
    """
    defined = [(v, c) for v, c in zip(values, cases, strict=True) if v is not None]
    if wrong := [c for v, c in defined if not math.isfinite(v)]:
        raise DatasetError(f"case {wrong[0]}: a score is NaN or infinite; it cannot enter a mean")
    if not defined:
        return None
    numbers = np.array([v for v, _ in defined], dtype=np.float64)
    badness = {"high": -numbers, "low": numbers}.get(better, np.abs(numbers))
    worst = int(badness.argmax())
    return Statistic(
        n=len(numbers),
        undefined=len(values) - len(numbers),
        mean=float(numbers.mean()),
        median=float(np.median(numbers)),
        sd=float(numbers.std(ddof=1)) if len(numbers) > 1 else None,
        interval=_bootstrap(numbers, resamples, seed) if len(numbers) > 1 else None,
        worst=float(numbers[worst]),
        worst_case=defined[worst][1],
    )


def _bootstrap(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], resamples: int, seed: int
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=0.95,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(result.low), float(result.high)


def summarise(scores: Iterable[Score], *, resamples: int = 2000, seed: int = 0) -> list[Summary]:
    """Summary of each structure in order of first appearance, and of all structures together at the end.

    For all structures together, a case counts once, with the mean over its structures: structures of one
    case are not independent, and an interval that took them for it would be too narrow.

    Args:
        scores: rows of any number of cases.
        resamples: of each bootstrap.
        seed: of each bootstrap.

    Raises:
        DatasetError: there are no scores, one of them is NaN or infinite, or they are of surfaces of two definitions.
    """
    rows = list(scores)
    surface_of(rows)
    if not rows:
        raise DatasetError("no scores to summarise: no case was compared")
    structures = dict.fromkeys((row.structure, row.value) for row in rows)
    groups: list[tuple[str, int | None, list[Score]]] = [
        (name, value, [row for row in rows if row.structure == name]) for name, value in structures
    ]
    summaries = []
    for name, value, group in [*groups, (ALL_STRUCTURES, None, rows)]:
        metrics = {}
        for metric in judged_metrics():
            values = _case_means(group, metric.name)
            found = statistic(
                list(values.values()), list(values), metric.better, resamples=resamples, seed=seed
            )
            if found is not None:
                metrics[metric.name] = found
        notes = {row.note: 0 for row in group if row.note}
        for row in group:
            if row.note:
                notes[row.note] += 1
        summaries.append(Summary(name, value, metrics, {str(k): n for k, n in notes.items()}))
    return summaries


def _case_means(rows: Sequence[Score], metric: str) -> dict[str, float | None]:
    """Mean of a metric over the rows of each case that define it; ``None`` where none does."""
    by_case: dict[str, list[float]] = {row.case: [] for row in rows}
    for row in rows:
        value = row[metric]
        if value is not None:
            by_case[row.case].append(float(value))
    return {case: (math.fsum(values) / len(values) if values else None) for case, values in by_case.items()}
