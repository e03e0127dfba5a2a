"""Significance of differences between methods: a matrix of paired tests for each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from atlaseg.pipeline.evaluation.metrics import Metric
from atlaseg.workflows.report_page.benchmark_tables import Benchmark, with_labels
from atlaseg.workflows.report_page.blocks import Block, Cell, Row, Table, folded_but_first
from atlaseg.workflows.report_page.context import Context
from atlaseg.workflows.report_page.method_names import marked_name, marker
from atlaseg.workflows.report_page.number_texts import EMPTY, p_text
from atlaseg.workflows.report_page.palette import Style

__all__ = ["Comparison", "significance_matrix", "significance_tables"]

LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """A cell of the significance matrix: the method of the row minus that of the column.

    Args:
        difference: of the means, as text.
        p: corrected by Holm, as text.
        verdict: ``better``, ``worse``, ``none`` or ``self``: the method of the row, where p is below 0.05.
        tip: everything in words.
    """

    difference: str
    p: str
    verdict: str
    tip: str


def significance_matrix(
    benchmark: Benchmark, styles: Mapping[str, Style], metric: Metric, labels: int | None
) -> list[tuple[Style, list[Comparison]]]:
    """Rows and columns in the order of ``styles``; empty where nothing was tested."""
    table = with_labels(benchmark.tables["significance"], labels)
    table = table[table["metric"] == metric.name]
    tested = {(str(r["method_a"]), str(r["method_b"])): r for _, r in table.iterrows()}
    present = {name for pair in tested for name in pair}
    shown = [style for name, style in styles.items() if name in present]
    return [(row, [_compare(row, column, tested, metric) for column in shown]) for row in shown]


def _compare(row: Style, column: Style, tested: Mapping[tuple[str, str], Any], metric: Metric) -> Comparison:
    if row.name == column.name:
        return Comparison("", "", "self", "")
    sign = 1.0 if (row.name, column.name) in tested else -1.0
    found = tested.get((row.name, column.name), tested.get((column.name, row.name)))
    if found is None:
        return Comparison(EMPTY, "", "none", "not tested")
    difference, p = sign * float(found["difference"]), float(found["p_holm"])
    verdict = "none"
    if p < LEVEL and difference != 0:
        gain = difference > 0 if metric.better == "high" else difference < 0
        verdict = "better" if gain else "worse"
    shown = f"{difference:+.{metric.decimals}f}".replace("-", "−")
    tip = (
        f"{row.label} minus {column.label}: {shown}, p = {p_text(float(found['p']))}, by Holm {p_text(p)}, "
        f"{int(found['n'])} cases"
    )
    return Comparison(shown, p_text(p), verdict, tip)


def significance_tables(context: Context) -> list[Block]:
    """A matrix for each metric, the first open; nothing where the main metric was not tested."""
    found = [
        (metric, significance_matrix(context.benchmark, context.styles, metric, context.labels))
        for metric in context.metrics
    ]
    if not found or not found[0][1]:
        return []
    return folded_but_first(
        (metric.title, [_table(context, metric, rows)] if rows else []) for metric, rows in found
    )


def _table(context: Context, metric: Metric, rows: Sequence[tuple[Style, list[Comparison]]]) -> Table:
    caption = Markup(
        "{}{}: the method of the row minus that of the column (mean over cases), and the p value of the paired "
        "Wilcoxon signed-rank test, two-sided, after Holm's correction over all pairs.\n"
        '<span class="swatch better"></span> row is better, <span class="swatch worse"></span> row is worse, '
        "p &lt; 0.05."
    ).format(metric.title, context.at_labels)
    return Table(
        "matrix",
        caption,
        [Row([Cell("", "stick", head=True), *(Cell(marker(style), head=True) for style, _ in rows)])],
        [Row(_cells(style, cells)) for style, cells in rows],
    )


def _cells(style: Style, comparisons: Sequence[Comparison]) -> list[Cell]:
    return [
        Cell(marked_name(style), "stick", head=True, attributes={"scope": "row"}),
        *(
            Cell(
                Markup("{}<small>{}</small>").format(one.difference, one.p),
                one.verdict,
                attributes={"title": one.tip},
            )
            for one in comparisons
        ),
    ]
