"""The summary of scores on the screen: a line for each structure, what the numbers are, and the worst case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atlaseg.workflows.console.screen import say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from atlaseg.pipeline.evaluation.metrics import Metric
    from atlaseg.pipeline.evaluation.statistics import Summary
    from atlaseg.pipeline.evaluation.surface import Surface

__all__ = ["print_summary"]


def print_summary(
    summaries: Sequence[Summary], tolerance_mm: float, surface: Surface, console: Console
) -> None:
    """Print summaries of structures, and that of all of them, which comes last.

    Args:
        summaries: of :func:`atlaseg.pipeline.evaluation.statistics.summarise`.
        tolerance_mm: that metrics with one were computed at.
        surface: what surfaces are made of.
        console: to print on.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("structure")
    main, *others = _shown()
    for title in (f"{main.label} [95% CI]", "median", "worst", *(metric.label for metric in others)):
        table.add_column(title, justify="right", no_wrap=True)
    *structures, everything = summaries
    for summary in structures:
        table.add_row(*_row(summary))
    table.add_section()
    table.add_row(*_row(everything))
    console.print(table)
    found = everything.metrics[main.name]
    units = {
        unit: [m.label for m in others if m.unit == unit] for unit in dict.fromkeys(m.unit for m in others)
    }
    in_units = [f"{' and '.join(names)} in {unit}" for unit, names in units.items() if unit]
    near = [f"{metric.label} at {tolerance_mm:g} mm" for metric in others if metric.at_tolerance]
    say(
        console,
        f"means over {found.n} case{'s' * (found.n != 1)}; {', '.join(in_units + near)}, all by surface {surface}; "
        f"worst case {found.worst_case} ({main.label} {found.worst:.3f} over its structures)",
    )
    if everything.notes:
        notes = ", ".join(f"{count} x {note}" for note, count in everything.notes.items())
        say(console, f"scored by the rule for empty structures, marked in the table: {notes}")


def _row(summary: Summary) -> list[Text]:
    from rich.text import Text

    main, *others = _shown()
    found = summary.metrics[main.name]
    interval = "n too small" if found.interval is None else "{:.3f}, {:.3f}".format(*found.interval)
    cells = [
        summary.structure,
        f"{found.mean:.3f} [{interval}]",
        f"{found.median:.3f}",
        f"{found.worst:.3f}",
        *(
            f"{summary.metrics[metric.name].mean:.{metric.decimals}f}"
            if metric.name in summary.metrics
            else ""
            for metric in others
        ),
    ]
    # As plain strings, square brackets would be read as markup and vanish.
    return [Text(cell) for cell in cells]


def _shown() -> list[Metric]:
    """Metrics that the screen has room for: those that methods are tested by, the main one first."""
    from atlaseg.pipeline.evaluation.metrics import judged_metrics, main_metric

    main = main_metric()
    return [main, *(metric for metric in judged_metrics() if metric.tested and metric.name != main.name)]
