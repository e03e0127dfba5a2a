"""Mean of the main metric against the time of training and of one scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from atlaseg.workflows.report_page.blocks import Block, Figure, Notice
from atlaseg.workflows.report_page.context import Context
from atlaseg.workflows.report_page.costs import costs
from atlaseg.workflows.report_page.drawing import Canvas, linear_scale, log_scale, path
from atlaseg.workflows.report_page.palette import INK

__all__ = ["time_blocks", "time_figures"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 470.0, 300.0, 46.0, 26.0, 48.0, 38.0


def time_blocks(context: Context) -> list[Block]:
    """The figure, or that there are no times."""
    panels = time_figures(context)
    if not panels:
        return [Notice("No times were kept.")]
    about = context.benchmark.about
    cores = f" ({about['cores']} core{'' if about['cores'] == 1 else 's'})" if about["cores"] else ""
    better = "Down" if context.main.better == "low" else "Up"
    return [
        Figure(
            panels,
            f"Mean {context.main.label}{context.at_labels} with its 95% interval against wall-clock time on "
            f"{about['cpu'] or 'an unnamed processor'}{cores}. {better} and to the left is better.",
            grid="panels two",
            legend=True,
        )
    ]


def time_figures(context: Context) -> list[Markup]:
    """Mean score with its interval against the time of one scan, and against the time of fitting."""
    found = costs(context.benchmark, context.labels)
    segment = {name: cost.segment_seconds for name, cost in found.items()}
    fit = {name: cost.fit_seconds for name, cost in found.items()}
    figures = [
        _figure(context, segment, "Time of one scan (s, median)"),
        _figure(context, fit, "Time of fitting (s, mean over folds)"),
    ]
    return [figure for figure in figures if figure is not None]


def _figure(
    context: Context,
    seconds: Mapping[str, float | None],
    title: str,
) -> Markup | None:
    main, styles = context.main, context.styles
    rows = context.benchmark.summary(main.name, context.labels)
    # nothing to fit takes no time, which has no place on a logarithmic axis: it stands at the left end
    points = {name: max(s, 0.01) for name, s in seconds.items() if s is not None and name in rows.index}
    if not points:
        return None
    shown: Any = rows.loc[list(points)]
    ends = shown[["mean", "low", "high"]].to_numpy(dtype=np.float64)
    x_scale = log_scale(min(points.values()), max(points.values()), LEFT, WIDTH - RIGHT)
    y_scale = linear_scale(float(np.nanmin(ends)), float(np.nanmax(ends)), HEIGHT - BOTTOM, TOP)
    canvas = Canvas(WIDTH, HEIGHT, f"Mean {main.label} against {title}")
    canvas.text(0, 13, title.partition(" (")[0], font_size=12.5, font_weight=600)
    canvas.y_axis(y_scale, LEFT, WIDTH - RIGHT, f"Mean {main.title}")
    canvas.x_axis(x_scale, TOP, HEIGHT - BOTTOM, title)
    for name, x_value in points.items():
        mean, low, high = (float(shown.loc[name, column]) for column in ("mean", "low", "high"))
        x, style = x_scale(x_value), styles[name]
        if np.isfinite([low, high]).all():
            bar = path([(x, y_scale(low)), (x, y_scale(high))])
            canvas.add("path", d=bar, stroke=style.colour, stroke_width=1.8, stroke_opacity=0.75)
        tip = f"{style.label}: {main.label} {mean:.{main.decimals}f}, {x_value:.3g} s"
        canvas.marker(style, x, y_scale(mean), 5.5, tip=tip)
        canvas.text(x + 8, y_scale(mean) + 3.8, str(style.number), font_weight=700, fill=INK)
    return canvas.markup()
