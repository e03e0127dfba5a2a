"""One colour, marker, number and short label for each method, the same in every figure and table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atlaseg.workflows.report_page.folder import MethodEntry

__all__ = ["COLOURS", "Style", "method_styles"]

#: Okabe and Ito's colours without yellow and black, which vanish on paper or in text, then Tol's wine, olive,
#: indigo and grey: told apart with any kind of colour vision (Okabe and Ito, Color Universal Design, 2008,
#: jfly.uni-koeln.de/color; Tol, SRON technical note SRON/EPS/TN/09-002, 2021).
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#882255", "#999933", "#332288", "#777777"),
)
#: Beyond the colours, the marker tells methods apart.
MARKERS = ("circle", "square", "triangle", "diamond")
_LONGEST = 36


@dataclass(frozen=True)
class Style:
    """How a method looks.

    Args:
        number: from 1, in the order of the command.
        name: of the method in the tables.
        label: the shortest text that tells it from the others.
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
        turn = index // len(COLOURS)
        styles[method.name] = Style(
            number=index + 1,
            name=method.name,
            label=_label(method, methods),
            options=", ".join(f"{key} = {value}" for key, value in method.options.items()),
            colour=COLOURS[index % len(COLOURS)],
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
