"""Worst cases of the methods: the scan and every method's outlines in three planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from atlaseg.pipeline.errors import AtlasegError
from atlaseg.pipeline.evaluation.metrics import Metric, main_metric
from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.blocks import Block, Figure, Html, Notice
from atlaseg.workflows.report_page.context import Context
from atlaseg.workflows.report_page.method_names import marked_name
from atlaseg.workflows.report_page.overlays import Views
from atlaseg.workflows.report_page.palette import Style
from atlaseg.workflows.report_page.voxels import Truths, read_prediction

__all__ = ["Tile", "WorstCase", "choose_cases", "draw_case", "worst_case_figures"]


@dataclass(frozen=True)
class Tile:
    """Three planes of one case with the outlines of one method.

    Args:
        style: of the method; ``None`` for the scan with the truth alone.
        score: mean of the main metric over the structures, ``None`` where there is none.
        figure: the planes; ``None`` where the method has no label map of the case.
    """

    style: Style | None
    score: float | None
    figure: Markup | None


@dataclass(frozen=True)
class WorstCase:
    """The worst case of some methods.

    Args:
        case: its name.
        methods: those whose worst case it is.
        tiles: the scan, then the methods.
    """

    case: str
    methods: tuple[Style, ...]
    tiles: tuple[Tile, ...]


def choose_cases(
    benchmark: Benchmark, styles: Mapping[str, Style], labels: int | None, most: int
) -> dict[str, list[Style]]:
    """The worst case of each method by its mean over the structures, the worst of these first, at most so many."""
    metric = main_metric()
    means = _case_means(benchmark, labels, metric)
    sign = -1.0 if metric.better == "low" else 1.0
    chosen: dict[str, list[Style]] = {}
    worst = []
    for style in styles.values():
        of_method = {case: mean for (method, case), mean in means.items() if method == style.name}
        if of_method:
            case = min(of_method, key=lambda name: (sign * of_method[name], name))
            worst.append((sign * of_method[case], case, style))
    for _, case, style in sorted(worst, key=lambda entry: (entry[0], entry[1], entry[2].number)):
        if case in chosen or len(chosen) < most:
            chosen.setdefault(case, []).append(style)
    return chosen


def _case_means(benchmark: Benchmark, labels: int | None, metric: Metric) -> dict[tuple[str, str], float]:
    scores = benchmark.scores(metric.name, labels)
    means = scores.groupby(["method", "case"], as_index=False)["value"].mean()
    return {
        (str(method), str(case)): float(value)
        for method, case, value in zip(means["method"], means["case"], means["value"], strict=True)
    }


def draw_case(
    benchmark: Benchmark,
    truths: Truths,
    case: str,
    of_methods: Sequence[Style],
    styles: Mapping[str, Style],
    labels: int | None,
    key: str,
    problems: list[str],
) -> WorstCase | None:
    """Tiles of one case; ``None`` where its scan or truth cannot be read.

    Args:
        benchmark: the folder.
        truths: cases of the data set.
        case: its name.
        of_methods: those whose worst case it is.
        styles: of all methods.
        labels: number of labelled training cases.
        key: for the names of elements, unique on the page.
        problems: takes a line for each file that cannot be read.
    """
    try:
        views = Views(truths, case, key)
    except (AtlasegError, OSError) as error:
        problems.append(f"case {case} is not drawn: {error}")
        return None
    means = _case_means(benchmark, labels, main_metric())
    predictions: dict[str, npt.NDArray[np.int64]] = {}
    for name in styles:
        for cell in benchmark.cells_with(name, labels):
            if cell.label_map(case).is_file():
                try:
                    predictions[name] = views.canonical(read_prediction(cell.label_map(case), views.header))
                except (AtlasegError, OSError) as error:
                    problems.append(f"{name}, case {case} is not drawn: {error}")
    views.aim(list(predictions.values()))
    tiles = [Tile(None, None, views.draw(None, None))]
    for name, style in styles.items():
        if (name, case) in means:
            figure = views.draw(style, predictions[name]) if name in predictions else None
            tiles.append(Tile(style, means[name, case], figure))
    return WorstCase(case, tuple(of_methods), tuple(tiles))


def worst_case_figures(context: Context) -> list[Block]:
    """A figure for each case, or why there is none."""
    if context.truths is None:
        said = "Not drawn: the data set has moved since the benchmark. Give its folder by {}."
        return [Notice(escape(said).format(Markup("<code>--dataset</code>")))]
    chosen = choose_cases(context.benchmark, context.styles, context.labels, context.worst_cases)
    found = [
        draw_case(
            context.benchmark,
            context.truths,
            case,
            of_methods,
            context.styles,
            context.labels,
            f"case{number}",
            context.problems,
        )
        for number, (case, of_methods) in enumerate(chosen.items())
    ]
    drawn = [case for case in found if case is not None]
    if not drawn:
        return [
            Notice("None was requested." if context.worst_cases == 0 else "Not drawn: no scan could be read.")
        ]
    metric = context.main
    which = "highest" if metric.better == "low" else "lowest"
    introduction = Markup(
        "<p>The case with the {} {} (mean over structures) of each method{}, at most {}, in the slices where all "
        "methods together have most wrong voxels.\n"
        "White outlines are the truth, coloured ones the method; where both agree, the coloured line lies in the white "
        "one. The patient's right is at the left.</p>"
    ).format(which, metric.label, context.at_labels, context.worst_cases)
    return [Html(introduction), *(_figure(case, metric) for case in drawn)]


def _figure(worst: WorstCase, metric: Metric) -> Figure:
    name = Markup('<span class="case">{}</span>').format(worst.case)
    methods = Markup(", ").join(marked_name(style) for style in worst.methods)
    return Figure(
        [_panel(tile, metric) for tile in worst.tiles],
        Markup("Case {}: sagittal, coronal and axial slice.").format(name),
        grid="tiles",
        heading=Markup("<h3>{} <small>worst case of {}</small></h3>").format(name, methods),
    )


def _panel(tile: Tile, metric: Metric) -> Markup:
    title = Markup("<span>Scan and truth</span>")
    if tile.style is not None:
        score = f"{metric.label} {tile.score:.{metric.decimals}f}"
        title = Markup('{}<span class="score">{}</span>').format(marked_name(tile.style), score)
    return Markup("<p>{}</p>\n{}").format(
        title, tile.figure or Markup('<div class="absent">no label map</div>')
    )
