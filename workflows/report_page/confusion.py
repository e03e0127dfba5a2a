"""Which structure is taken for which: confusion matrices in percent of each true structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from atlaseg.workflows.report_page.blocks import Block, Figure, Notice
from atlaseg.workflows.report_page.context import Context
from atlaseg.workflows.report_page.drawing import Canvas, shorten
from atlaseg.workflows.report_page.palette import INK, MUTED, SHADES, Style
from atlaseg.workflows.report_page.voxels import label_table, total_confusion

__all__ = ["confusion_blocks", "confusion_figures"]

#: Matrices with more labels have no room for numbers.
MOST_NUMBERS = 8
SIDE, LEFT, TOP = 236.0, 118.0, 26.0


def confusion_blocks(context: Context) -> list[Block]:
    """A matrix for each method, or why there is none."""
    found = {
        name: sums
        for name in context.styles
        if (sums := total_confusion(context.benchmark, name, context.labels)) is not None
    }
    panels = confusion_figures(found, context.styles, label_table(context.benchmark).names)
    if not panels:
        return [Notice("Not shown: the folder holds no finished cell with a label map.")]
    return [
        Figure(
            panels,
            "Voxels of each true structure (row) by the label they were given (column), in percent of the row, over "
            f"all cases{context.at_labels}. Shades follow the square root, so that rare confusions are seen. Failed "
            "cases have no label map and are left out.",
        )
    ]


def confusion_figures(
    found: Mapping[str, npt.NDArray[np.int64]], styles: Mapping[str, Style], names: Sequence[str]
) -> list[Markup]:
    """A matrix for each method.

    Args:
        found: ``(K, K)`` voxel counts of each method, rows the truth.
        styles: of the methods.
        names: of the ``K`` labels.
    """
    return [_figure(found[name], style, names) for name, style in styles.items() if name in found]


def _figure(counts: npt.NDArray[np.int64], style: Style, names: Sequence[str]) -> Markup:
    K = len(names)
    cell = SIDE / K
    size = min(10.5, max(cell * 0.9, 4.0))
    bottom = 34 + 0.4 * size * min(max(map(len, names)), 18)
    canvas = Canvas(LEFT + SIDE + 6, TOP + SIDE + bottom, f"Confusion matrix of {style.label}")
    canvas.text(0, 13, f"{style.number}  {shorten(style.label, 34)}", font_size=12.5, font_weight=600)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    for row, name in enumerate(names):
        y = TOP + cell * row
        canvas.text(LEFT - 5, y + cell / 2 + 3, shorten(name, 18), "end", font_size=size, fill=MUTED)
        x = LEFT + cell * (row + 0.5)
        place = f"rotate(-45 {x:.1f} {TOP + SIDE + 10:.1f})"
        canvas.text(x, TOP + SIDE + 10, shorten(name, 18), "end", font_size=size, fill=MUTED, transform=place)
        for column in range(K):
            tip = f"{name} labelled as {names[column]}: {share[row, column]:.2%}"
            x = LEFT + cell * column
            part = float(share[row, column])
            look: dict[str, Any] = {
                "fill": _shade(part),
                "stroke": "#ffffff",
                "stroke_width": 0.5 if K > MOST_NUMBERS else 1,
            }
            canvas.add("rect", tip=tip, x=x, y=y, width=cell, height=cell, **look)
            if K <= MOST_NUMBERS:
                ink = "#ffffff" if np.sqrt(part) > 0.62 else INK
                text = _percent(part)
                canvas.text(x + cell / 2, y + cell / 2 + 4, text, "middle", font_size=size, fill=ink)
    canvas.text(LEFT + SIDE / 2, TOP + SIDE + bottom - 4, "Predicted", "middle", font_size=10.5, fill=MUTED)
    middle = TOP + SIDE / 2
    turned = {"transform": f"rotate(-90 10 {middle:.1f})", "font_size": 10.5, "fill": MUTED}
    canvas.text(10, middle, "Truth", "middle", **turned)
    return canvas.markup()


def _percent(share: float) -> str:
    if share == 0:
        return "0"
    return "<0.1" if share < 0.0005 else f"{100 * share:.1f}"


def _shade(share: float) -> str:
    """White to dark blue by the square root, so that rare confusions are seen."""
    at = float(np.sqrt(share))
    nothing, everything = (np.array(list(bytes.fromhex(colour[1:]))) for colour in SHADES)
    red, green, rest = (round(float(v)) for v in nothing + at * (everything - nothing))
    return f"#{red:02x}{green:02x}{rest:02x}"
