"""Cases that a method could not segment, and files that could not be used for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.blocks import Block, Cell, Html, Notice, Row, Table
from atlaseg.workflows.report_page.context import Context, labels_text
from atlaseg.workflows.report_page.method_names import marked_name
from atlaseg.workflows.report_page.palette import Style
from atlaseg.workflows.report_page.texts_without_paths import without_paths

__all__ = ["FailureRow", "failure_blocks", "failure_rows"]


@dataclass(frozen=True)
class FailureRow:
    """A case that a method failed on."""

    style: Style | None
    method: str
    labels: int | None
    fold: str
    case: str
    error: str


def failure_rows(benchmark: Benchmark, styles: Mapping[str, Style]) -> list[FailureRow]:
    """Every failed case, with the error's text freed of paths."""
    return [
        FailureRow(
            styles.get(str(row["method"])),
            str(row["method"]),
            None if row["labels"] is None or row["labels"] != row["labels"] else int(row["labels"]),
            str(row["fold"]),
            str(row["case"]),
            without_paths(str(row["error"])),
        )
        for row in benchmark.tables["failures"]
        .astype(object)
        .where(benchmark.tables["failures"].notna(), None)
        .to_dict("records")
    ]


def failure_blocks(context: Context) -> list[Block]:
    """The table of failures, and the list of files that could not be used by the sections before."""
    rows = failure_rows(context.benchmark, context.styles)
    heads = [Cell(word, head=True) for word in ("Method", "Labels", "Fold", "Error")]
    blocks: list[Block] = [
        Table(
            "failures",
            "Cases that a method could not segment. They count with the worst scores.",
            [Row([Cell("Case", "stick", head=True), *heads])],
            [Row(_cells(row)) for row in rows],
        )
        if rows
        else Html(Markup("<p>Every method gave a label map of every case.</p>"))
    ]
    if context.problems:
        lines = Markup("\n").join(
            Markup('<li class="error">{}</li>').format(without_paths(line)) for line in context.problems
        )
        blocks += [
            Notice("Files that could not be used for this page:"),
            Html(Markup("<ul>\n{}\n</ul>").format(lines)),
        ]
    return blocks


def _cells(row: FailureRow) -> list[Cell]:
    return [
        Cell(row.case, "stick case", head=True, attributes={"scope": "row"}),
        Cell(marked_name(row.style) if row.style else row.method),
        Cell(labels_text(row.labels)),
        Cell(row.fold),
        Cell(row.error, "error"),
    ]
