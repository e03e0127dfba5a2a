"""Cost of methods: times and memory."""

from __future__ import annotations

from dataclasses import dataclass

from atlaseg.workflows.report_page.benchmark_tables import Benchmark, with_labels

__all__ = ["Cost", "costs"]


@dataclass(frozen=True)
class Cost:
    """Cost of a method.

    Args:
        fit_seconds: mean over folds of the wall-clock time of fitting, ``None`` where it was not timed.
        segment_seconds: median over cases of the wall-clock time of one scan, ``None`` where it was not timed.
        peak_mib: most memory of any step, MiB, ``None`` where it was not measured.
    """

    fit_seconds: float | None
    segment_seconds: float | None
    peak_mib: float | None


def costs(benchmark: Benchmark, labels: int | None) -> dict[str, Cost]:
    """Cost of each method at one number of labels."""
    table = with_labels(benchmark.tables["times"], labels)
    found = {}
    for method in benchmark.methods:
        rows = table[table["method"] == method.name]
        fit = rows.loc[rows["stage"] == "fit", "seconds"].dropna()
        segment = rows.loc[rows["stage"] == "segment", "seconds"].dropna()
        peak = rows["peak_mib"].dropna()
        found[method.name] = Cost(
            float(fit.mean()) if len(fit) else None,
            float(segment.median()) if len(segment) else None,
            float(peak.max()) if len(peak) else None,
        )
    return found
