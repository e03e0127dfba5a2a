"""Box plots of scores: a panel per metric, a box per structure, a point per case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlaseg.pipeline.evaluation.metrics import Metric, drawn_metrics
from atlaseg.pipeline.evaluation.scores import Score, surface_of
from atlaseg.pipeline.io.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_box_plot"]

_INK = "#333333"
_FILL = "#c6d9ec"
_LINE = "#1f4e79"
_FLAG = "#c0392b"


def write_box_plot(path: Path, scores: Sequence[Score], tolerance_mm: float) -> None:
    """The metrics that are drawn, of each structure, as a PNG for print (200 dpi).

    Boxes span the quartiles with the median as a line, whiskers reach 1.5 times the box's width; every case
    is a point. Cases whose map lacks the structure are red crosses, so that nobody takes them for
    measurements; their distances lie at the end of the axis at most.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    structures = list(dict.fromkeys(score.structure for score in scores))
    panels = drawn_metrics()
    style = {"font.family": "sans-serif", "font.size": 8, "axes.linewidth": 0.6, "text.color": _INK}
    with rc_context(style):
        figure = Figure(
            figsize=(7.2 * len(panels) / 3, 1.1 + 0.26 * max(len(structures), 2)), layout="constrained"
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, metric in zip(axes, panels, strict=True):
            groups = [[s for s in scores if s.structure == name] for name in structures]
            _draw(axis, groups, metric)
            axis.set_title(metric.title_at(tolerance_mm), fontsize=9)
        axes[0].set_yticks(range(len(structures)), structures)
        axes[0].set_ylim(len(structures) - 0.4, -0.6)
        cases = len({score.case for score in scores})
        figure.supxlabel(
            _caption(cases, surface_of(scores), any(s.note for s in scores)), fontsize=7, color="#666666"
        )
        with replacing(path, ".png") as temporary:
            figure.savefig(temporary, format="png", dpi=200)


def _caption(cases: int, surface: str, flagged: bool) -> str:
    text = f"{cases} case{'' if cases == 1 else 's'}; surface {surface}; box: quartiles and median, whiskers: 1.5 x box"
    return (
        f"{text}; red crosses: structure missing in a map (distance may be off the scale)"
        if flagged
        else text
    )


def _limit(groups: Sequence[Sequence[Score]], metric: Metric) -> float | None:
    """End of the axis of distances: just above the measured ones, which the worst value would squeeze to nothing."""
    if metric.worst != "diagonal":
        return None
    measured, flagged = (
        [
            value
            for group in groups
            for score, value in _with_value(group, metric)
            if bool(score.note) is wanted
        ]
        for wanted in (False, True)
    )
    return 1.08 * max(measured or flagged or [0.0]) or 1.0


def _with_value(group: Sequence[Score], metric: Metric) -> list[tuple[Score, float]]:
    """Scores that have a value of a metric, and the values."""
    return [(score, value) for score in group if (value := score[metric.name]) is not None]


def _draw(axis: Axes, groups: Sequence[Sequence[Score]], metric: Metric) -> None:
    drawn = [_with_value(group, metric) for group in groups]
    values = [[value for _, value in group] for group in drawn]
    line: dict[str, Any] = {"color": _LINE, "linewidth": 0.8}
    axis.boxplot(
        values,
        positions=range(len(drawn)),
        orientation="horizontal",
        widths=0.62,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": _FILL, "edgecolor": _LINE, "linewidth": 0.8},
        medianprops={"color": _LINE, "linewidth": 1.6},
        whiskerprops=line,
        capprops=line,
        manage_ticks=False,
    )
    limit = _limit(groups, metric)
    rng = np.random.default_rng(0)
    for row, (group, numbers) in enumerate(zip(drawn, values, strict=True)):
        height = row + rng.uniform(-0.2, 0.2, len(group))
        flagged = np.array([bool(score.note) for score, _ in group], dtype=bool)
        points = np.asarray(numbers) if limit is None else np.minimum(numbers, limit)
        dot: dict[str, Any] = {"color": _INK, "alpha": 0.55, "linewidths": 0, "zorder": 3}
        cross: dict[str, Any] = {"color": _FLAG, "marker": "x", "linewidths": 0.9, "zorder": 4}
        axis.scatter(points[~flagged], height[~flagged], s=5, clip_on=False, **dot)
        axis.scatter(points[flagged], height[flagged], s=12, clip_on=False, **cross)
    if limit is not None:
        axis.set_xlim(0, limit)
    axis.grid(axis="x", color="#e5e5e5", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=2, width=0.6, colors=_INK)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
