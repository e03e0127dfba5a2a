"""What sections of the page are made of: figures, tables, notices, and parts that are folded away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from markupsafe import Markup

__all__ = ["Block", "Cell", "Figure", "Folded", "Html", "Notice", "Row", "Table", "folded_but_first"]


@dataclass(frozen=True)
class Figure:
    """Panels with a numbered caption.

    Args:
        panels: one SVG each.
        caption: of all of them; the page puts its number before it.
        grid: class of the grid of panels: ``panels``, ``panels two`` for wide ones, ``tiles``.
        legend: whether the names of all methods stand above the panels.
        heading: above all.
    """

    kind_of_block: ClassVar[str] = "figure"
    panels: Sequence[Markup]
    caption: str
    grid: str = "panels"
    legend: bool = False
    heading: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table; text is escaped, markup is not."""

    content: str
    css: str = ""
    head: bool = False
    attributes: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    cells: Sequence[Cell]
    css: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a numbered caption above it.

    Args:
        css: its class.
        caption: the page puts its number before it.
        head: lines of the heading.
        rows: the other lines.
    """

    kind_of_block: ClassVar[str] = "table"
    css: str
    caption: str
    head: Sequence[Row]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Notice:
    """A paragraph that says what is missing and why."""

    kind_of_block: ClassVar[str] = "notice"
    text: str


@dataclass(frozen=True)
class Html:
    """Any other element."""

    kind_of_block: ClassVar[str] = "html"
    markup: Markup


@dataclass(frozen=True)
class Folded:
    """Blocks that open when their summary is clicked."""

    kind_of_block: ClassVar[str] = "folded"
    summary: str
    blocks: Sequence[Block]


Block = Figure | Table | Notice | Html | Folded


def folded_but_first(parts: Iterable[tuple[str, Sequence[Block]]]) -> list[Block]:
    """The blocks of the first part open, those of the others folded away under summaries; empty parts left out."""
    blocks: list[Block] = []
    for summary, of_part in ((summary, part) for summary, part in parts if part):
        blocks += [Folded(summary, of_part)] if blocks else of_part
    return blocks
