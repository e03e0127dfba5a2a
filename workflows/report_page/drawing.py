"""Figures as inline SVG: scales, axes, markers. Text from files becomes text nodes, which are escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET  # written only, nothing is parsed

import numpy as np
from markupsafe import Markup

from atlaseg.workflows.report_page.palette import GRID, INK, MUTED, Style

__all__ = ["Canvas", "Scale", "linear_scale", "log_scale", "shorten"]


@dataclass(frozen=True)
class Scale:
    """Numbers to places along an axis.

    Args:
        low: number at the start.
        high: number at the end.
        start: place of ``low``, px.
        end: place of ``high``, px.
        ticks: numbers with a line and a text.
        logarithmic: whether equal ratios take equal distances.
        texts: of the ticks, where numbers themselves will not do.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    logarithmic: bool = False
    texts: tuple[str, ...] = ()

    def __call__(self, value: float) -> float:
        """Place of a number; beyond the ends it is the end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = np.log10(low), np.log10(high), np.log10(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return float(self.start + share * (self.end - self.start))

    @property
    def labels(self) -> tuple[str, ...]:
        """Text of each tick."""
        return self.texts or tuple(f"{tick:.10g}" for tick in self.ticks)


def linear_scale(low: float, high: float, start: float, end: float, most: int = 6) -> Scale:
    """Scale whose ends are at round numbers, or at ``low`` and ``high`` where these are asked for twice.

    >>> linear_scale(0.61, 1.0, 0, 100).ticks
    (0.6, 0.7, 0.8, 0.9, 1.0)
    """
    from matplotlib.ticker import MaxNLocator

    if high <= low:
        high = low + (abs(low) or 1.0) * 0.1
    locator = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10])
    ticks = [float(round(t, 10)) for t in locator.tick_values(low, high)]
    step = ticks[1] - ticks[0]
    # a step that holds no number of ours is not drawn
    ticks = [t for t in ticks if low - step < t < high + step]
    return Scale(ticks[0], ticks[-1], start, end, tuple(ticks))


def log_scale(low: float, high: float, start: float, end: float) -> Scale:
    """Logarithmic scale with ticks at 1, 2 and 5, or at powers of ten where these are many."""
    low, high = max(low, 1e-9), max(high, 1e-9)
    # wide enough for a tick, even around a single number
    margin = max(1.25, (3 * low / high) ** 0.5)
    low, high = low / margin, high * margin
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
        if len(ticks) <= 7:
            break
    return Scale(low, high, start, end, tuple(float(f"{t:.6g}") for t in ticks), logarithmic=True)


def shorten(text: str, most: int) -> str:
    """Text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


class Canvas:
    """One SVG figure, ``width`` x ``height`` px at its natural size, that shrinks with the page.

    Args:
        width: px.
        height: px.
        title: what a screen reader says.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height = width, height
        self._root = ET.Element(
            "svg",
            {
                "viewBox": f"0 0 {width:g} {height:g}",
                "role": "img",
                "aria-label": title,
                "style": f"max-width:{width:g}px",
            },
        )
        self._here = self._root

    def add(self, tag: str, text: str = "", tip: str = "", **attributes: Any) -> ET.Element:
        """Add an element; ``stroke_width=1`` becomes ``stroke-width="1"``, ``tip`` shows under the pointer."""
        named = {key.rstrip("_").replace("_", "-"): _plain(value) for key, value in attributes.items()}
        element = ET.SubElement(self._here, tag, named)
        element.text = text or None
        if tip:
            ET.SubElement(element, "title").text = tip
        return element

    def text(self, x: float, y: float, text: str, anchor: str = "start", **attributes: Any) -> None:
        """Text whose baseline starts, has its middle or ends at a place."""
        settings: dict[str, Any] = {"font_size": 11, "fill": INK} | attributes
        self.add("text", text, x=x, y=y, text_anchor=anchor, **settings)

    def marker(self, style: Style, x: float, y: float, size: float = 4.0, tip: str = "") -> None:
        """A method's marker."""
        look: dict[str, Any] = {"fill": style.colour, "stroke": "#ffffff", "stroke_width": 0.8}
        if style.marker == "circle":
            self.add("circle", tip=tip, cx=x, cy=y, r=size, **look)
        else:
            self.add("path", tip=tip, d=_MARKERS[style.marker](x, y, size), **look)

    def x_axis(self, scale: Scale, top: float, bottom: float, title: str) -> None:
        """Grid lines from ``top`` to ``bottom``, tick texts and the title under them."""
        for tick, text in zip(scale.ticks, scale.labels, strict=True):
            self.add("path", d=f"M{scale(tick):.2f} {top:g}V{bottom:g}", stroke=GRID, stroke_width=1)
            self.text(scale(tick), bottom + 14, text, "middle", font_size=10.5, fill=MUTED)
        middle = (scale.start + scale.end) / 2
        self.text(middle, bottom + 29, title, "middle", font_size=10.5, fill=MUTED)

    def y_axis(self, scale: Scale, left: float, right: float, title: str) -> None:
        """Grid lines from ``left`` to ``right``, tick texts, and the title above them."""
        for tick, text in zip(scale.ticks, scale.labels, strict=True):
            self.add("path", d=f"M{left:g} {scale(tick):.2f}H{right:g}", stroke=GRID, stroke_width=1)
            self.text(left - 6, scale(tick) + 3.5, text, "end", font_size=10.5, fill=MUTED)
        if title:
            self.text(2, min(scale.start, scale.end) - 10, title, font_size=10.5, fill=MUTED)

    def markup(self) -> Markup:
        """The figure for the page."""
        return Markup(ET.tostring(self._root, encoding="unicode"))  # noqa: S704 - escaped by ElementTree


def path(points: Sequence[tuple[float, float]], closed: bool = False) -> str:
    """SVG path through places."""
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points) + "Z" * closed


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


_MARKERS: dict[str, Callable[[float, float, float], str]] = {
    "square": lambda x, y, r: path(
        [
            (x - 0.9 * r, y - 0.9 * r),
            (x + 0.9 * r, y - 0.9 * r),
            (x + 0.9 * r, y + 0.9 * r),
            (x - 0.9 * r, y + 0.9 * r),
        ],
        closed=True,
    ),
    "triangle": lambda x, y, r: path(
        [(x, y - 1.2 * r), (x + 1.1 * r, y + 0.8 * r), (x - 1.1 * r, y + 0.8 * r)], closed=True
    ),
    "diamond": lambda x, y, r: path(
        [(x, y - 1.25 * r), (x + 1.25 * r, y), (x, y + 1.25 * r), (x - 1.25 * r, y)], closed=True
    ),
}
