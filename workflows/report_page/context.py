"""What sections of the page are made from: the benchmark, how its methods look, and the scans where they are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atlaseg.pipeline.evaluation.metrics import Metric, drawn_metrics, main_metric
from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.palette import Style
from atlaseg.workflows.report_page.voxels import Truths

__all__ = ["Context", "labels_text", "most_labels", "scans_text"]


@dataclass(frozen=True, eq=False)
class Context:
    """Everything that sections are made from.

    Args:
        benchmark: the folder.
        styles: of its methods, by name, in their order.
        labels: the number of labelled training cases that figures are drawn of, ``None`` for all.
        truths: cases of the data set, ``None`` where it was not found.
        worst_cases: how many are drawn; with 0 the page holds no voxel of a scan.
        problems: takes a line for each file that cannot be used.
    """

    benchmark: Benchmark
    styles: Mapping[str, Style]
    labels: int | None = None
    truths: Truths | None = None
    worst_cases: int = 4
    problems: list[str] = field(default_factory=list)

    @property
    def main(self) -> Metric:
        """The metric that methods are described by."""
        return main_metric()

    @property
    def metrics(self) -> list[Metric]:
        """Metrics with figures that the benchmark has scores of; the main one first."""
        scored = set(self.benchmark.tables["scores"]["metric"])
        others = [metric for metric in drawn_metrics() if metric.name != self.main.name]
        return [metric for metric in (self.main, *others) if metric.name in scored]

    @property
    def at_labels(self) -> str:
        """For captions: with how many labelled scans; empty where the benchmark had all of them only."""
        several = len(self.benchmark.labels) > 1 or self.labels is not None
        return f" with {scans_text(self.labels)}" if several else ""


def labels_text(labels: int | None) -> str:
    """A number of labelled cases in words short enough for an axis."""
    return "all" if labels is None else str(labels)


def scans_text(labels: int | None) -> str:
    """A number of labelled cases in words.

    >>> scans_text(1), scans_text(None)
    ('1 labelled training scan', 'all labelled training scans')
    """
    if labels is None:
        return "all labelled training scans"
    return f"{labels} labelled training scan{'' if labels == 1 else 's'}"


def most_labels(benchmark: Benchmark) -> int | None:
    """The number of labels that figures are drawn of: the largest of those that most methods have scores of."""
    methods = {n: benchmark.scores(main_metric().name, n)["method"].nunique() for n in benchmark.labels}
    return max(methods, key=lambda n: (methods[n], benchmark.labels.index(n)))
