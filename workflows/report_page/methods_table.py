"""The table of methods: rank, scores, failures and costs, best rank first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from atlaseg.pipeline.evaluation.metrics import Metric
from atlaseg.workflows.report_page.benchmark_tables import Benchmark, with_labels
from atlaseg.workflows.report_page.blocks import Block, Cell, Row, Table, folded_but_first
from atlaseg.workflows.report_page.context import Context, scans_text
from atlaseg.workflows.report_page.costs import costs
from atlaseg.workflows.report_page.drawing import Canvas, Scale, path
from atlaseg.workflows.report_page.method_names import marked_name
from atlaseg.workflows.report_page.number_texts import duration, interval_text, memory, number_text
from atlaseg.workflows.report_page.palette import GRID, Style

__all__ = ["MethodRow", "method_rows", "method_tables", "winner"]


@dataclass(frozen=True)
class MethodRow:
    """A line of the table of methods; every text is ready to be shown.

    Args:
        others: means of the metrics after the first, by name.
        best: columns in which the method is the best.
    """

    style: Style
    rank: str
    mean: str
    interval: str
    bar: Markup
    median: str
    worst: str
    worst_case: str
    others: Mapping[str, str]
    failed: int
    n: int
    fit: str
    segment: str
    memory: str
    best: frozenset[str]


def method_rows(
    benchmark: Benchmark, styles: Mapping[str, Style], metrics: Sequence[Metric], labels: int | None
) -> list[MethodRow]:
    """Lines of the table of methods at one number of labels, best rank first.

    Args:
        benchmark: the folder.
        styles: of its methods.
        metrics: the main one, and those that stand beside it.
        labels: number of labelled training cases.
    """
    main, *others = metrics
    scores: Any = benchmark.summary(main.name, labels)
    if scores.empty:
        return []
    beside = {metric.name: benchmark.summary(metric.name, labels)["mean"] for metric in others}
    ranking = with_labels(benchmark.tables["ranking"], labels).set_index("method")["rank"]
    cost = costs(benchmark, labels)
    best = _best_methods(main, others, scores, beside, ranking)
    ends = scores[["mean", "low", "high"]].to_numpy(dtype=np.float64)
    scale = Scale(float(np.nanmin(ends)), float(np.nanmax(ends)), 6, 114, ())
    rows = []
    for name in sorted(
        (n for n in styles if n in scores.index), key=lambda n: (_of(ranking, n), styles[n].number)
    ):
        row, style = scores.loc[name], styles[name]
        rows.append(
            MethodRow(
                style=style,
                rank=number_text(_of(ranking, name), 2),
                mean=number_text(row["mean"], main.decimals),
                interval=interval_text(row["low"], row["high"], main.decimals),
                bar=_interval_bar(style, row, scale, main),
                median=number_text(row["median"], main.decimals),
                worst=number_text(row["worst"], main.decimals),
                worst_case=str(row["worst_case"]),
                others={m.name: number_text(_of(beside[m.name], name), m.decimals) for m in others},
                failed=int(row["failed"]),
                n=int(row["n"]),
                fit=duration(cost[name].fit_seconds),
                segment=duration(cost[name].segment_seconds),
                memory=memory(cost[name].peak_mib),
                best=frozenset(column for column, first in best.items() if first == name),
            )
        )
    return rows


def _best_methods(
    main: Metric, others: Sequence[Metric], scores: Any, beside: Mapping[str, Any], ranking: Any
) -> dict[str, str | None]:
    """Method with the best number of each column; none where there is one method only."""
    if len(scores) < 2:
        return {}
    best = {column: winner(main, scores[column]) for column in ("mean", "median", "worst")}
    best |= {metric.name: winner(metric, beside[metric.name]) for metric in others}
    return best | {"rank": str(ranking.idxmin())} if len(ranking) else best


def winner(metric: Metric, values: Any) -> str | None:
    """Method with the best of some numbers; ``None`` where there is none.

    Args:
        metric: that the numbers are of.
        values: by method.
    """
    values = values.dropna()
    if values.empty:
        return None
    if metric.better == "near 0":
        return str(values.abs().idxmin())
    return str(values.idxmax() if metric.better == "high" else values.idxmin())


def _interval_bar(style: Style, row: Any, scale: Scale, main: Metric) -> Markup:
    """The mean and its interval on a line, for the table: what overlaps is seen at once."""
    canvas = Canvas(120, 18, f"mean {main.label} {row['mean']:.{main.decimals}f}")
    canvas.add("path", d=path([(scale.start, 9), (scale.end, 9)]), stroke=GRID, stroke_width=1)
    if math.isfinite(row["low"]) and math.isfinite(row["high"]):
        ends = [(scale(row["low"]), 9), (scale(row["high"]), 9)]
        canvas.add("path", d=path(ends), stroke=style.colour, stroke_width=2.4)
    canvas.marker(style, scale(row["mean"]), 9, 4.2)
    return canvas.markup()


def _of(column: Any, name: str) -> float:
    return float(column[name]) if name in column.index else math.nan


def method_tables(context: Context) -> list[Block]:
    """A table for each number of labels, the largest open."""
    found = {
        n: method_rows(context.benchmark, context.styles, context.metrics, n)
        for n in reversed(context.benchmark.labels)
    }
    found = {n: rows for n, rows in found.items() if rows}
    return folded_but_first(
        (f"With {scans_text(n)}", [_table(context, n, rows, several=len(found) > 1)])
        for n, rows in found.items()
    )


def _table(context: Context, labels: int | None, rows: Sequence[MethodRow], *, several: bool) -> Table:
    main, *others = context.metrics
    which = f" with {scans_text(labels)}" if several or labels is not None else ""
    two: dict[str, str | int] = {"rowspan": 2}
    first = [
        Cell("Method", "stick", head=True, attributes=two),
        Cell("Rank", head=True, attributes=two),
        Cell(main.label, "group", head=True, attributes={"colspan": 5}),
        *(Cell(_broken(metric), head=True, attributes=two) for metric in others),
        Cell("Failed", head=True, attributes=two),
        Cell("Cost", "group", head=True, attributes={"colspan": 3}),
    ]
    second = [
        Cell("mean", head=True),
        Cell("95% interval", head=True),
        Cell("", head=True, attributes={"aria-label": "mean and interval as a picture"}),
        *(Cell(word, head=True) for word in ("median", "worst (case)", "fit", "scan", "memory")),
    ]
    return Table(
        "methods",
        f"Methods{which}, best rank first.\n"
        "Scores are means over the structures of a case; the interval is the 95% bootstrap interval of the mean over "
        "cases. The best value of each column is bold.\n"
        "Fit: mean over folds; scan: median over cases; both wall-clock.",
        [Row(first), Row(second)],
        [Row(_cells(row)) for row in rows],
    )


def _broken(metric: Metric) -> Markup:
    """Title of a narrow column, a word on each line."""
    return Markup("<br>").join([*metric.title.partition(" (")[0].split(), *filter(None, [metric.unit])])


def _cells(row: MethodRow) -> list[Cell]:
    def best(column: str) -> str:
        return "best" if column in row.best else ""

    options = Markup("<small>{}</small>").format(row.style.options) if row.style.options else Markup()
    failed = Markup('<a class="bad" href="#failures">{}</a>').format(row.failed) if row.failed else "0"
    worst = (Markup('<span class="best">{}</span>') if best("worst") else Markup("<span>{}</span>")).format(
        row.worst
    )
    return [
        Cell(marked_name(row.style) + options, "stick", head=True, attributes={"scope": "row"}),
        Cell(row.rank, best("rank")),
        Cell(row.mean, best("mean")),
        Cell(row.interval, "soft"),
        Cell(row.bar, "bar"),
        Cell(row.median, best("median")),
        Cell(Markup('{} <span class="case">{}</span>').format(worst, row.worst_case)),
        *(Cell(text, best(name)) for name, text in row.others.items()),
        Cell(Markup('{}<span class="soft"> / {}</span>').format(failed, row.n)),
        Cell(row.fit),
        Cell(row.segment),
        Cell(row.memory),
    ]
