"""Rows of the page's tables: numbers as text, and which of them are the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES, METRICS
from atlaseg.workflows.report_page.drawing import GRID, Canvas, Scale, path
from atlaseg.workflows.report_page.folder import Benchmark, with_labels, without_paths
from atlaseg.workflows.report_page.palette import Style
from atlaseg.workflows.report_page.time_against_score import costs

__all__ = [
    "Comparison",
    "FailureRow",
    "MethodRow",
    "StructureRow",
    "failure_rows",
    "method_rows",
    "significance_matrix",
    "structure_rows",
]

LEVEL = 0.05
EMPTY = "–"


@dataclass(frozen=True)
class MethodRow:
    """A line of the table of methods; every text is ready to be shown."""

    style: Style
    rank: str
    mean: str
    interval: str
    bar: Markup | None
    median: str
    worst: str
    worst_case: str
    surface_dice: str
    hd95: str
    failed: int
    n: int
    fit: str
    segment: str
    memory: str
    best: frozenset[str]


def method_rows(benchmark: Benchmark, styles: Mapping[str, Style], labels: int | None) -> list[MethodRow]:
    """Lines of the table of methods at one number of labels, best rank first."""
    dice: Any = benchmark.summary("dice", labels)
    surface, hd95 = (benchmark.summary(metric, labels) for metric in ("surface_dice", "hd95_mm"))
    ranking = with_labels(benchmark.tables["ranking"], labels).set_index("method")["rank"]
    cost = costs(benchmark, labels)
    best = _best_methods(dice, surface, hd95, ranking)
    ends = dice[["mean", "low", "high"]].to_numpy(dtype=np.float64)
    scale = Scale(float(np.nanmin(ends)), float(np.nanmax(ends)), 6, 114, ()) if len(dice) else None
    rows = []
    for name in sorted(
        (n for n in styles if n in dice.index), key=lambda n: (_of(ranking, n), styles[n].number)
    ):
        row, style = dice.loc[name], styles[name]
        rows.append(
            MethodRow(
                style=style,
                rank=_number(_of(ranking, name), 2),
                mean=_number(row["mean"], 3),
                interval=interval_text(row["low"], row["high"]),
                bar=_interval_bar(style, row, scale) if scale else None,
                median=_number(row["median"], 3),
                worst=_number(row["worst"], 3),
                worst_case=str(row["worst_case"]),
                surface_dice=_number(_of(surface["mean"], name), 3),
                hd95=_number(_of(hd95["mean"], name), 2),
                failed=int(row["failed"]),
                n=int(row["n"]),
                fit=duration(cost[name].fit_seconds),
                segment=duration(cost[name].segment_seconds),
                memory=memory(cost[name].peak_mib),
                best=frozenset(column for column, winner in best.items() if winner == name),
            )
        )
    return rows


def _best_methods(dice: Any, surface: Any, hd95: Any, ranking: Any) -> dict[str, str]:
    """Method with the best number of each column; nobody is best alone."""
    if len(dice) < 2:
        return {}
    best = {column: str(dice[column].idxmax()) for column in ("mean", "median", "worst")}
    if len(surface):
        best["surface_dice"] = str(surface["mean"].idxmax())
    if len(hd95):
        best["hd95"] = str(hd95["mean"].idxmin())
    if len(ranking):
        best["rank"] = str(ranking.idxmin())
    return best


def _interval_bar(style: Style, row: Any, scale: Scale) -> Markup:
    """The mean and its interval on a line, for the table: what overlaps is seen at once."""
    canvas = Canvas(120, 18, f"mean Dice {row['mean']:.3f}")
    canvas.add("path", d=path([(scale.start, 9), (scale.end, 9)]), stroke=GRID, stroke_width=1)
    if math.isfinite(row["low"]) and math.isfinite(row["high"]):
        ends = [(scale(row["low"]), 9), (scale(row["high"]), 9)]
        canvas.add("path", d=path(ends), stroke=style.colour, stroke_width=2.4)
    canvas.marker(style, scale(row["mean"]), 9, 4.2)
    return canvas.markup()


@dataclass(frozen=True)
class StructureRow:
    """Mean Dice and interval of every method on one structure: ``cells[n] = (mean, interval, is the best)``."""

    structure: str
    cells: tuple[tuple[str, str, bool], ...]


def structure_rows(
    benchmark: Benchmark, styles: Mapping[str, Style], metric: str, labels: int | None
) -> list[StructureRow]:
    """A line for each structure and one for all of them, a cell for each method in the order of ``styles``."""
    decimals = 2 if metric.endswith("_mm") else 3
    names = benchmark.structure_names
    rows = []
    for structure in [*names, ALL_STRUCTURES] if len(names) > 1 else names:
        table: Any = benchmark.summary(metric, labels, structure)
        means = {name: float(table.loc[name, "mean"]) for name in styles if name in table.index}
        pick = max if METRICS[metric] == "low" else min
        best = pick(means, key=lambda name: means[name]) if len(means) > 1 else None
        cells = tuple(
            (
                _number(means.get(name), decimals),
                interval_text(*_ends(table, name), decimals=decimals),
                name == best,
            )
            for name in styles
        )
        rows.append(StructureRow(structure, cells))
    return rows


def _ends(table: Any, name: str) -> tuple[Any, Any]:
    return (table.loc[name, "low"], table.loc[name, "high"]) if name in table.index else (None, None)


@dataclass(frozen=True)
class Comparison:
    """A cell of the significance matrix: the method of the row minus that of the column.

    Args:
        difference: of the means, as text.
        p: corrected by Holm, as text.
        verdict: ``better``, ``worse``, ``none`` or ``self``: the method of the row, where p is below 0.05.
        tip: everything in words.
    """

    difference: str
    p: str
    verdict: str
    tip: str


def significance_matrix(
    benchmark: Benchmark, styles: Mapping[str, Style], metric: str, labels: int | None
) -> list[tuple[Style, list[Comparison]]]:
    """Rows and columns in the order of ``styles``; empty where nothing was tested."""
    table = with_labels(benchmark.tables["significance"], labels)
    table = table[table["metric"] == metric]
    tested = {(str(r["method_a"]), str(r["method_b"])): r for _, r in table.iterrows()}
    present = {name for pair in tested for name in pair}
    shown = [style for name, style in styles.items() if name in present]
    return [(row, [_compare(row, column, tested, metric) for column in shown]) for row in shown]


def _compare(row: Style, column: Style, tested: Mapping[tuple[str, str], Any], metric: str) -> Comparison:
    if row.name == column.name:
        return Comparison("", "", "self", "")
    sign = 1.0 if (row.name, column.name) in tested else -1.0
    found = tested.get((row.name, column.name), tested.get((column.name, row.name)))
    if found is None:
        return Comparison(EMPTY, "", "none", "not tested")
    difference, p = sign * float(found["difference"]), float(found["p_holm"])
    verdict = "none"
    if p < LEVEL and difference != 0:
        gain = difference > 0 if METRICS[metric] == "low" else difference < 0
        verdict = "better" if gain else "worse"
    decimals = 2 if metric.endswith("_mm") else 3
    shown = f"{difference:+.{decimals}f}".replace("-", "−")
    tip = (
        f"{row.label} minus {column.label}: {shown}, p = {_p(float(found['p']))}, by Holm {_p(p)}, "
        f"{int(found['n'])} cases"
    )
    return Comparison(shown, _p(p), verdict, tip)


@dataclass(frozen=True)
class FailureRow:
    """A case that a method failed on."""

    style: Style | None
    method: str
    labels: int | None
    fold: str
    case: str
    error: str


def failure_rows(benchmark: Benchmark, styles: Mapping[str, Style]) -> list[FailureRow]:
    """Every failed case, with the error's text freed of paths."""
    return [
        FailureRow(
            styles.get(str(row["method"])),
            str(row["method"]),
            None if row["labels"] is None or row["labels"] != row["labels"] else int(row["labels"]),
            str(row["fold"]),
            str(row["case"]),
            without_paths(str(row["error"])),
        )
        for row in benchmark.tables["failures"]
        .astype(object)
        .where(benchmark.tables["failures"].notna(), None)
        .to_dict("records")
    ]


def interval_text(low: Any, high: Any, decimals: int = 3) -> str:
    """A 95% interval, or a dash where there is none.

    >>> interval_text(0.8, 0.9)
    '0.800–0.900'
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return EMPTY
    return f"{low:.{decimals}f}–{high:.{decimals}f}"


def duration(seconds: float | None) -> str:
    """Time in the unit that suits it.

    >>> duration(0.42), duration(75), duration(7300)
    ('0.42 s', '1.2 min', '2.0 h')
    """
    if seconds is None:
        return EMPTY
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def memory(mib: float | None) -> str:
    """Memory in the unit that suits it."""
    if mib is None:
        return EMPTY
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _of(column: Any, name: str) -> float:
    return float(column[name]) if name in column.index else math.nan


def _number(value: float | None, decimals: int) -> str:
    return EMPTY if value is None or not math.isfinite(value) else f"{value:.{decimals}f}"
