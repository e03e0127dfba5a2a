"""Box plots: a panel for each structure, a box for each method, a point for each case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup

from atlaseg.pipeline.evaluation.metrics import Metric
from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.drawing import Canvas, Scale, linear_scale, path, shorten
from atlaseg.workflows.report_page.palette import BEYOND, FAILED, INK, Style

__all__ = ["box_plots"]

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 380.0, 146.0, 12.0, 28.0, 23.0, 38.0
#: More points than this in the panels of one metric make a page slow: then only those beyond the whiskers.
MOST_POINTS = 8000


@dataclass(frozen=True, eq=False)
class _Box:
    """A method's scores on a structure: rows of cases, and where its box and whiskers end."""

    style: Style
    rows: pd.DataFrame
    values: npt.NDArray[np.float64]
    quartiles: tuple[float, float, float]
    whiskers: tuple[float, float]


def box_plots(
    benchmark: Benchmark, styles: Mapping[str, Style], metric: Metric, labels: int | None
) -> list[Markup]:
    """A figure for each structure, all of them on one scale.

    Boxes span the quartiles, the line is the median, whiskers end at the last case within 1.5 times the box (Tukey).
    The scale spans the whiskers; cases beyond it are triangles at its edge.
    """
    table = benchmark.scores(metric.name, labels)
    panels = {
        name: [
            _box(style, rows)
            for style in styles.values()
            if not (rows := table[(table["structure"] == name) & (table["method"] == style.name)]).empty
        ]
        for name in benchmark.structure_names
    }
    panels = {name: boxes for name, boxes in panels.items() if boxes}
    if not panels:
        return []
    ends = np.array([box.whiskers for boxes in panels.values() for box in boxes])
    low, high = _axis(metric, float(ends[:, 0].min()), float(ends[:, 1].max()))
    scale = linear_scale(low, high, LEFT, WIDTH - RIGHT, 5)
    every_point = len(table) <= MOST_POINTS
    return [_panel(name, boxes, scale, metric, every_point) for name, boxes in panels.items()]


def _axis(metric: Metric, low: float, high: float) -> tuple[float, float]:
    """Ends of the axis: the best value, if there is one, and where the whiskers end at the other side."""
    first, last = metric.bounds
    if metric.better == "high":
        return low, high if last is None else last
    return low if first is None else first, high


def _box(style: Style, rows: pd.DataFrame) -> _Box:
    values = rows["value"].to_numpy(dtype=np.float64)
    low, middle, high = (float(q) for q in np.percentile(values, (25, 50, 75)))
    reach = 1.5 * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    whiskers = (min(float(inside.min()), low), max(float(inside.max()), high))
    return _Box(style, rows, values, (low, middle, high), whiskers)


def _panel(name: str, boxes: list[_Box], scale: Scale, metric: Metric, every_point: bool) -> Markup:
    title = metric.title
    bottom = TOP + ROW * len(boxes)
    canvas = Canvas(WIDTH, bottom + BOTTOM, f"Box plot of {title} of {name}")
    canvas.text(0, 13, shorten(name, 44), font_size=12.5, font_weight=600)
    canvas.x_axis(scale, TOP - 4, bottom, title)
    for row, box in enumerate(boxes):
        y = TOP + ROW * (row + 0.5)
        canvas.text(LEFT - 9, y + 3.8, shorten(f"{box.style.number} {box.style.label}", 22), "end")
        _draw_box(canvas, box, scale, y)
        _draw_points(canvas, box, scale, y, every_point)
    return canvas.markup()


def _draw_box(canvas: Canvas, box: _Box, scale: Scale, y: float) -> None:
    colour = box.style.colour
    low, middle, high = (scale(value) for value in box.quartiles)
    start, end = (scale(value) for value in box.whiskers)
    canvas.add("path", d=path([(start, y), (low, y)]), stroke=colour, stroke_width=1.2)
    canvas.add("path", d=path([(high, y), (end, y)]), stroke=colour, stroke_width=1.2)
    first, median, third = box.quartiles
    tip = f"{box.style.label}: median {median:.3f}, quartiles {first:.3f} to {third:.3f}"
    half = ROW * 0.32
    canvas.add(
        "rect",
        tip=tip,
        x=low,
        y=y - half,
        width=max(high - low, 0.5),
        height=2 * half,
        rx=1.5,
        fill=colour,
        fill_opacity=0.22,
        stroke=colour,
        stroke_width=1.2,
    )
    canvas.add("path", d=path([(middle, y - half), (middle, y + half)]), stroke=INK, stroke_width=2)


def _draw_points(canvas: Canvas, box: _Box, scale: Scale, y: float, every_point: bool) -> None:
    jitter = np.random.default_rng(box.style.number).uniform(-0.24, 0.24, len(box.values)) * ROW
    for offset, value, case, failed in zip(
        jitter, box.values, box.rows["case"], box.rows["failed"], strict=True
    ):
        if not every_point and box.whiskers[0] <= value <= box.whiskers[1]:
            continue
        tip = f"{case}: {value:.3f}" + (", failed" if failed else "")
        x, at = scale(float(value)), y + float(offset)
        if scale.low <= value <= scale.high and not failed:
            canvas.add("circle", tip=tip, cx=x, cy=at, r=1.6, fill=box.style.colour, fill_opacity=0.6)
            continue
        back = 5 if x <= scale.start else -5
        arrow = path([(x, at), (x + back, at - 3), (x + back, at + 3)], closed=True)
        fill = FAILED if failed else BEYOND
        canvas.add("path", tip=tip, d=arrow, fill=fill, stroke=box.style.colour, stroke_width=1.1)
