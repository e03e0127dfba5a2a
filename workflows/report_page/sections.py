"""The sections of the page, in order: to add a figure, write its file and add a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from atlaseg.workflows.report_page.blocks import Block
from atlaseg.workflows.report_page.context import Context

__all__ = ["SECTIONS", "Section"]


@dataclass(frozen=True)
class Section:
    """A section; without blocks it is left out.

    Args:
        name: what links to it say.
        link: its short name at the top of the page.
        title: its heading; ``{metric}`` becomes the label of the main metric.
        target: ``module:function`` below this package, which makes its blocks from a :class:`Context`.
    """

    name: str
    link: str
    title: str
    target: str

    def blocks(self, context: Context) -> Sequence[Block]:
        """What the section shows."""
        module, _, function = self.target.partition(":")
        make: Callable[[Context], Sequence[Block]] = getattr(
            import_module(f"atlaseg.workflows.report_page.{module}"), function
        )
        return make(context)


SECTIONS = (
    Section("methods", "Methods", "Methods", "methods_table:method_tables"),
    Section("structures", "Structures", "Structures", "structures:structure_blocks"),
    Section("curves", "Learning curves", "Learning curves", "learning_curves:curve_figures"),
    Section("significance", "Significance", "Significance", "significance_matrix:significance_tables"),
    Section("worst", "Worst cases", "Worst cases", "worst_cases:worst_case_figures"),
    Section("time", "Time", "Time against {metric}", "time_against_score:time_blocks"),
    Section("confusion", "Confusion", "Confusion between structures", "confusion:confusion_blocks"),
    Section("calibration", "Calibration", "Calibration", "calibration:calibration_blocks"),
    Section("failures", "Failures", "Failures", "failure_table:failure_blocks"),
    Section("protocol", "How it was made", "How it was made", "protocol:protocol_blocks"),
)
