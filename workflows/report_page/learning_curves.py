"""Scores against the number of labelled scans that a method may learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from atlaseg.pipeline.evaluation.metrics import Metric
from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES
from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.blocks import Block, Figure, folded_but_first
from atlaseg.workflows.report_page.context import Context, labels_text
from atlaseg.workflows.report_page.drawing import Canvas, Scale, linear_scale, path, shorten
from atlaseg.workflows.report_page.palette import Style

__all__ = ["curve_figures", "learning_curves"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380.0, 268.0, 44.0, 30.0, 48.0, 38.0
Point = tuple[int | None, float, float | None, float | None]


def curve_figures(context: Context) -> list[Block]:
    """Curves of each metric, those of the first open; nothing for a single number of labels."""
    found = [
        (metric, learning_curves(context.benchmark, context.styles, metric)) for metric in context.metrics
    ]
    if not found or not found[0][1]:
        return []
    return folded_but_first(
        (metric.title, [Figure(panels, _caption(metric), legend=True)] if panels else [])
        for metric, panels in found
    )


def _caption(metric: Metric) -> str:
    return (
        f"Mean {metric.title} against the number of labelled scans that a method could learn from, with 95% bootstrap "
        "intervals of the mean. Logarithmic in the number of scans."
    )


def learning_curves(benchmark: Benchmark, styles: Mapping[str, Style], metric: Metric) -> list[Markup]:
    """A figure for all structures together and one for each, on one scale; none for a single number of labels."""
    if len(benchmark.labels) < 2:
        return []
    names = benchmark.structure_names
    # of a single structure, the mean over structures is the same curve again
    wanted = [ALL_STRUCTURES, *names] if len(names) > 1 else names
    curves = {name: _curves(benchmark, styles, metric, name) for name in wanted}
    values = [
        end
        for of_methods in curves.values()
        for points in of_methods.values()
        for _, mean, low, high in points
        for end in (mean, low, high)
        if end is not None
    ]
    if not values:
        return []
    y_scale = linear_scale(min(values), max(values), HEIGHT - BOTTOM, TOP, 8)
    x_scale = _label_scale(benchmark.labels)
    return [_panel(name, of, styles, x_scale, y_scale, metric) for name, of in curves.items()]


def _curves(
    benchmark: Benchmark, styles: Mapping[str, Style], metric: Metric, structure: str
) -> dict[str, list[Point]]:
    curves: dict[str, list[Point]] = {name: [] for name in styles}
    for labels in benchmark.labels:
        rows = benchmark.summary(metric.name, labels, structure)
        for name, row in rows.iterrows():
            low, high = (None if row[end] != row[end] else float(row[end]) for end in ("low", "high"))
            curves[str(name)].append((labels, float(row["mean"]), low, high))
    return {name: points for name, points in curves.items() if points}


def _label_scale(labels: tuple[int | None, ...]) -> Scale:
    """Logarithmic in the number of labels; all of them, whose number differs between folds, come last."""
    numbers = [float(n) for n in labels if n is not None]
    if None in labels:
        numbers.append(max(numbers) * 2)
    return Scale(
        numbers[0] / 1.12,
        numbers[-1] * 1.12,
        LEFT,
        WIDTH - RIGHT,
        tuple(numbers),
        logarithmic=True,
        texts=tuple(labels_text(n) for n in labels),
    )


def _panel(
    structure: str,
    curves: Mapping[str, list[Point]],
    styles: Mapping[str, Style],
    x_scale: Scale,
    y_scale: Scale,
    metric: Metric,
) -> Markup:
    title = metric.title
    canvas = Canvas(WIDTH, HEIGHT, f"Learning curve of {title}, {structure}")
    shown = "All structures" if structure == ALL_STRUCTURES else structure
    canvas.text(0, 13, shorten(shown, 44), font_size=12.5, font_weight=600)
    canvas.y_axis(y_scale, LEFT, WIDTH - RIGHT, f"Mean {title}")
    canvas.x_axis(x_scale, TOP, HEIGHT - BOTTOM, "Labelled training scans")
    place = {
        float(tick): labels for tick, labels in zip(x_scale.ticks, x_scale.texts, strict=True)
    }  # tick -> text; points are looked up by their text
    at = {text: x_scale(tick) for tick, text in place.items()}
    for name, points in curves.items():
        band = [
            (at[labels_text(n)], low, high)
            for n, _, low, high in points
            if low is not None and high is not None
        ]
        if len(band) > 1:
            outline = [(x, y_scale(high)) for x, _, high in band] + [
                (x, y_scale(low)) for x, low, _ in band[::-1]
            ]
            canvas.add("path", d=path(outline, closed=True), fill=styles[name].colour, fill_opacity=0.1)
    for name, points in curves.items():
        style = styles[name]
        line = [(at[labels_text(n)], y_scale(mean)) for n, mean, _, _ in points]
        dash: dict[str, Any] = {"stroke_dasharray": style.dash} if style.dash else {}
        canvas.add("path", d=path(line), fill="none", stroke=style.colour, stroke_width=1.8, **dash)
        for (x, y), (n, mean, low, high) in zip(line, points, strict=True):
            interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
            canvas.marker(style, x, y, tip=f"{style.label}, {labels_text(n)} labels: {mean:.3f}{interval}")
    _name_ends(canvas, curves, styles, at, y_scale)
    return canvas.markup()


def _name_ends(
    canvas: Canvas,
    curves: Mapping[str, list[Point]],
    styles: Mapping[str, Style],
    at: Mapping[str, float],
    y_scale: Scale,
) -> None:
    """Number of each method beside the end of its curve, moved apart where they would lie on each other."""
    ends = sorted(
        (y_scale(points[-1][1]), at[labels_text(points[-1][0])], name) for name, points in curves.items()
    )
    lowest = -1e9
    for y, x, name in ends:
        lowest = max(y, lowest + 11)
        canvas.text(
            x + 9,
            lowest + 3.5,
            str(styles[name].number),
            fill=styles[name].colour,
            font_size=10.5,
            font_weight=700,
        )
