"""What a score costs: mean Dice against the time of training and of one scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from atlaseg.workflows.report_page.drawing import INK, Canvas, linear_scale, log_scale, path
from atlaseg.workflows.report_page.folder import Benchmark, with_labels
from atlaseg.workflows.report_page.palette import Style

__all__ = ["Cost", "costs", "time_figures"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 470.0, 300.0, 46.0, 26.0, 48.0, 38.0


@dataclass(frozen=True)
class Cost:
    """What a method took.

    Args:
        fit_seconds: mean over folds of the wall-clock time of fitting, ``None`` where it was not timed.
        segment_seconds: median over cases of the wall-clock time of one scan, ``None`` where it was not timed.
        peak_mib: most memory of any step, MiB, ``None`` where it was not measured.
    """

    fit_seconds: float | None
    segment_seconds: float | None
    peak_mib: float | None


def costs(benchmark: Benchmark, labels: int | None) -> dict[str, Cost]:
    """Cost of each method at one number of labels."""
    table = with_labels(benchmark.tables["times"], labels)
    found = {}
    for method in benchmark.methods:
        rows = table[table["method"] == method.name]
        fit = rows.loc[rows["stage"] == "fit", "seconds"].dropna()
        segment = rows.loc[rows["stage"] == "segment", "seconds"].dropna()
        peak = rows["peak_mib"].dropna()
        found[method.name] = Cost(
            float(fit.mean()) if len(fit) else None,
            float(segment.median()) if len(segment) else None,
            float(peak.max()) if len(peak) else None,
        )
    return found


def time_figures(benchmark: Benchmark, styles: Mapping[str, Style], labels: int | None) -> list[Markup]:
    """Mean Dice with its interval against the time of one scan, and against the time of fitting."""
    found = costs(benchmark, labels)
    segment = {name: cost.segment_seconds for name, cost in found.items()}
    fit = {name: cost.fit_seconds for name, cost in found.items()}
    figures = [
        _figure(benchmark, styles, labels, segment, "Time of one scan (s, median)"),
        _figure(benchmark, styles, labels, fit, "Time of fitting (s, mean over folds)"),
    ]
    return [figure for figure in figures if figure is not None]


def _figure(
    benchmark: Benchmark,
    styles: Mapping[str, Style],
    labels: int | None,
    seconds: Mapping[str, float | None],
    title: str,
) -> Markup | None:
    rows = benchmark.summary("dice", labels)
    # nothing to fit takes no time, which has no place on a logarithmic axis: it stands at the left end
    points = {name: max(s, 0.01) for name, s in seconds.items() if s is not None and name in rows.index}
    if not points:
        return None
    shown: Any = rows.loc[list(points)]
    ends = shown[["mean", "low", "high"]].to_numpy(dtype=np.float64)
    x_scale = log_scale(min(points.values()), max(points.values()), LEFT, WIDTH - RIGHT)
    y_scale = linear_scale(float(np.nanmin(ends)), float(np.nanmax(ends)), HEIGHT - BOTTOM, TOP)
    canvas = Canvas(WIDTH, HEIGHT, f"Mean Dice against {title}")
    canvas.text(0, 13, title.partition(" (")[0], font_size=12.5, font_weight=600)
    canvas.y_axis(y_scale, LEFT, WIDTH - RIGHT, "Mean Dice")
    canvas.x_axis(x_scale, TOP, HEIGHT - BOTTOM, title)
    for name, x_value in points.items():
        mean, low, high = (float(shown.loc[name, column]) for column in ("mean", "low", "high"))
        x, style = x_scale(x_value), styles[name]
        if np.isfinite([low, high]).all():
            bar = path([(x, y_scale(low)), (x, y_scale(high))])
            canvas.add("path", d=bar, stroke=style.colour, stroke_width=1.8, stroke_opacity=0.75)
        tip = f"{style.label}: Dice {mean:.3f}, {x_value:.3g} s"
        canvas.marker(style, x, y_scale(mean), 5.5, tip=tip)
        canvas.text(x + 8, y_scale(mean) + 3.8, str(style.number), font_weight=700, fill=INK)
    return canvas.markup()
