"""Colours of figures; one colour, marker, number and short label for each method, the same in figures and tables.

Those of overlays and of methods stand in :mod:`atlaseg.pipeline.overlay_colours`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atlaseg.pipeline.overlay_colours import METHOD_COLOURS
from atlaseg.workflows.report_page.benchmark_tables import MethodEntry

__all__ = ["BEYOND", "FAILED", "GRID", "INK", "MUTED", "SHADES", "Style", "method_styles"]

#: Text and lines of figures.
INK, MUTED, GRID = "#1f2933", "#66727f", "#e4e8ec"
#: Triangles of failed cases and of those beyond the scale.
FAILED, BEYOND = "#c0392b", "#ffffff"
#: Ends of the shades of a confusion matrix: nothing, and everything.
SHADES = ("#f7f9fb", "#083c6e")

#: Beyond the colours, the marker distinguishes methods.
MARKERS = ("circle", "square", "triangle", "diamond")
_LONGEST = 36


@dataclass(frozen=True)
class Style:
    """Style of a method in figures.

    Args:
        number: from 1, in the order of the command.
        name: of the method in the tables.
        label: the shortest text that distinguishes it from the others.
        options: the rest of its name, as text.
        colour: ``#rrggbb``.
        marker: one of :data:`MARKERS`.
        dash: SVG dash pattern of its lines, empty for solid ones.
    """

    number: int
    name: str
    label: str
    options: str
    colour: str
    marker: str
    dash: str


def method_styles(methods: Sequence[MethodEntry]) -> dict[str, Style]:
    """Style of each method by its name."""
    styles = {}
    for index, method in enumerate(methods):
        turn = index // len(METHOD_COLOURS)
        styles[method.name] = Style(
            number=index + 1,
            name=method.name,
            label=_label(method, methods),
            options=", ".join(f"{key} = {value}" for key, value in method.options.items()),
            colour=METHOD_COLOURS[index % len(METHOD_COLOURS)],
            marker=MARKERS[(index + turn) % len(MARKERS)],
            dash="" if turn == 0 else f"{5 - min(turn, 3)} 2",
        )
    return styles


def _label(method: MethodEntry, methods: Sequence[MethodEntry]) -> str:
    """The kind, and where several have it, the options in which they differ."""
    rivals = [other for other in methods if other.kind == method.kind and other.name != method.name]
    if not rivals:
        return method.kind
    own = [
        f"{key}={value}"
        for key, value in method.options.items()
        if any(other.options.get(key) != value for other in rivals)
    ]
    text = f"{method.kind} {', '.join(own)}".strip()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
