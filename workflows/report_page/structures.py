"""Scores of each structure: a table of means and intervals, and box plots with a point for each case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from atlaseg.pipeline.evaluation.metrics import Metric
from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES
from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.blocks import Block, Cell, Figure, Row, Table, folded_but_first
from atlaseg.workflows.report_page.box_plots import box_plots
from atlaseg.workflows.report_page.context import Context
from atlaseg.workflows.report_page.method_names import marked_name
from atlaseg.workflows.report_page.methods_table import winner
from atlaseg.workflows.report_page.number_texts import interval_text, number_text
from atlaseg.workflows.report_page.palette import Style

__all__ = ["StructureRow", "structure_blocks", "structure_rows"]


@dataclass(frozen=True)
class StructureRow:
    """Mean and interval of every method on one structure: ``cells[n] = (mean, interval, is the best)``."""

    structure: str
    cells: tuple[tuple[str, str, bool], ...]


def structure_rows(
    benchmark: Benchmark, styles: Mapping[str, Style], metric: Metric, labels: int | None
) -> list[StructureRow]:
    """A line for each structure and one for all of them, a cell for each method in the order of ``styles``."""
    names = benchmark.structure_names
    rows = []
    for structure in [*names, ALL_STRUCTURES] if len(names) > 1 else names:
        table: Any = benchmark.summary(metric.name, labels, structure)
        means = table["mean"].reindex([name for name in styles if name in table.index])
        best = winner(metric, means) if len(means) > 1 else None
        cells = tuple(
            (
                number_text(float(means[name]) if name in means.index else None, metric.decimals),
                interval_text(*_ends(table, name), decimals=metric.decimals),
                name == best,
            )
            for name in styles
        )
        rows.append(StructureRow(structure, cells))
    return rows


def _ends(table: Any, name: str) -> tuple[Any, Any]:
    return (table.loc[name, "low"], table.loc[name, "high"]) if name in table.index else (None, None)


def structure_blocks(context: Context) -> list[Block]:
    """Table and box plots of each metric, those of the first open."""
    return folded_but_first(
        (f"{metric.title} of each structure", _of_metric(context, metric)) for metric in context.metrics
    )


def _of_metric(context: Context, metric: Metric) -> list[Block]:
    styles, at_labels = context.styles, context.at_labels
    rows = structure_rows(context.benchmark, styles, metric, context.labels)
    if not rows:
        return []
    names = [Cell(marked_name(style), head=True) for style in styles.values()]
    table = Table(
        "structures",
        f"Mean {metric.title} of each structure{at_labels}, with its 95% bootstrap interval.",
        [Row([Cell("Structure", "stick", head=True), *names])],
        [Row(_cells(row), "total" if row.structure == ALL_STRUCTURES else "") for row in rows],
    )
    panels = box_plots(context.benchmark, styles, metric, context.labels)
    figure = Figure(
        panels,
        f"{metric.title} of each case and structure{at_labels}. Boxes span the quartiles, the line is the median, "
        "whiskers end at the last case within 1.5 box widths.\n"
        "Open triangles are cases beyond the scale, red ones failures.",
    )
    return [table, figure] if panels else [table]


def _cells(row: StructureRow) -> list[Cell]:
    cells = [Cell(row.structure, "stick", head=True, attributes={"scope": "row"})]
    for mean, interval, best in row.cells:
        shown = (Markup('<span class="best">{}</span>') if best else Markup("<span>{}</span>")).format(mean)
        cells.append(Cell(shown + Markup("<small>{}</small>").format(interval)))
    return cells
