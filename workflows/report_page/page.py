"""The page: everything that the template shows, and the template filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from atlaseg.workflows.report_page.box_plots import METRIC_TITLES, box_plots
from atlaseg.workflows.report_page.calibration import (
    BINS,
    FEWEST_VOXELS,
    MARGIN_MM,
    Reliability,
    reliability_figures,
)
from atlaseg.workflows.report_page.confusion import confusion_figures
from atlaseg.workflows.report_page.drawing import Canvas
from atlaseg.workflows.report_page.folder import Benchmark, without_paths
from atlaseg.workflows.report_page.learning_curves import labels_text, learning_curves
from atlaseg.workflows.report_page.overlays import WorstCase, choose_cases, draw_case
from atlaseg.workflows.report_page.palette import Style, method_styles
from atlaseg.workflows.report_page.tables import (
    MethodRow,
    failure_rows,
    method_rows,
    significance_matrix,
    structure_rows,
)
from atlaseg.workflows.report_page.time_against_score import time_figures
from atlaseg.workflows.report_page.voxels import (
    Truths,
    find_truths,
    label_table,
    total_confusion,
    total_reliability,
)

__all__ = ["Page", "make_page"]

#: Metrics with panels and matrices of their own, the first of them open.
SHOWN_METRICS = ("dice", "surface_dice", "hd95_mm")


@dataclass(frozen=True)
class Page:
    """The page and what went wrong on the way.

    Args:
        html: the whole page.
        problems: a line for each file that could not be used.
        truth_found: whether the data set's label maps were there to compare with.
    """

    html: str
    problems: list[str]
    truth_found: bool


@dataclass(frozen=True)
class _Voxels:
    """What is made of volumes; empty where the data set or the label maps are not there."""

    found: bool = False
    worst: Sequence[WorstCase] = ()
    reliability: Sequence[Markup] = ()


def make_page(benchmark: Benchmark, dataset: Path | None = None, worst_cases: int = 4) -> Page:
    """One self-contained HTML page from a benchmark's folder.

    Args:
        benchmark: the folder.
        dataset: folder of its data set; by default where the benchmark found it.
        worst_cases: how many are drawn; with 0 the page holds no voxel of a scan.

    Raises:
        MissingFileError, DatasetError: ``dataset`` was given and is not a data set.
    """
    styles = method_styles(benchmark.methods)
    problems: list[str] = []
    truths = find_truths(benchmark, dataset)
    labels = _most_labels(benchmark)
    voxels = _Voxels()
    if truths is not None:
        voxels = _from_volumes(benchmark, truths, styles, labels, worst_cases, problems)
    html = _render(_content(benchmark, styles, labels, voxels, worst_cases, problems))
    return Page(html, problems, truths is not None)


def _most_labels(benchmark: Benchmark) -> int | None:
    """The number of labels that figures are drawn of: the largest of those that most methods have scores of."""
    methods = {n: benchmark.scores("dice", n)["method"].nunique() for n in benchmark.labels}
    return max(methods, key=lambda n: (methods[n], benchmark.labels.index(n)))


def _from_volumes(
    benchmark: Benchmark,
    truths: Truths,
    styles: Mapping[str, Style],
    labels: int | None,
    worst_cases: int,
    problems: list[str],
) -> _Voxels:
    reliabilities: dict[str, Reliability] = {}
    for name in styles:
        found = total_reliability(benchmark, truths, name, labels, problems)
        if found is not None:
            reliabilities[name] = found
    worst = [
        draw_case(benchmark, truths, case, of, styles, labels, f"case{number}", problems)
        for number, (case, of) in enumerate(choose_cases(benchmark, styles, labels, worst_cases).items())
    ]
    return _Voxels(
        found=True,
        worst=[case for case in worst if case is not None],
        reliability=reliability_figures(reliabilities, styles),
    )


def _content(
    benchmark: Benchmark,
    styles: Mapping[str, Style],
    labels: int | None,
    voxels: _Voxels,
    worst_cases: int,
    problems: Sequence[str],
) -> dict[str, Any]:
    """Everything that the template names."""
    about = benchmark.about
    tables = {n: method_rows(benchmark, styles, n) for n in reversed(benchmark.labels)}
    tables = {n: rows for n, rows in tables.items() if rows}
    matrices = {
        name: sums for name in styles if (sums := total_confusion(benchmark, name, labels)) is not None
    }
    return {
        "dataset": without_paths(benchmark.dataset),
        "command": without_paths(_command(about.get("command"))),
        "versions": {str(k): str(v) for k, v in (about.get("versions") or {}).items()},
        "about": about,
        "surface": {
            "voxels": "the voxels of a structure that touch the outside, each counting the same",
            "elements": "elements between voxels, weighted by their area (Nikolov et al. 2021)",
        }[benchmark.surface],
        "finished": bool(about.get("finished")),
        "folds": _folds(benchmark),
        "cases": benchmark.cases,
        "structures": benchmark.structures,
        "labels": labels,
        "all_labels": benchmark.labels,
        "labels_text": labels_text,
        "styles": list(styles.values()),
        "keys": {name: _key(style) for name, style in styles.items()},
        "tables": tables,
        "findings": _findings(benchmark, styles, labels, tables.get(labels, [])),
        "structure_tables": {m: structure_rows(benchmark, styles, m, labels) for m in SHOWN_METRICS},
        "boxes": {m: box_plots(benchmark, styles, m, labels) for m in SHOWN_METRICS},
        "metric_titles": METRIC_TITLES,
        "curves": {m: learning_curves(benchmark, styles, m) for m in SHOWN_METRICS},
        "significance": {m: significance_matrix(benchmark, styles, m, labels) for m in SHOWN_METRICS},
        "times": time_figures(benchmark, styles, labels),
        "confusion": confusion_figures(matrices, styles, label_table(benchmark).names),
        "voxels": voxels,
        "worst_cases": worst_cases,
        "bins": BINS,
        "fewest_voxels": FEWEST_VOXELS,
        "margin_mm": MARGIN_MM,
        "failures": failure_rows(benchmark, styles),
        "problems": [without_paths(line) for line in problems],
    }


def _command(words: Any) -> str:
    import shlex

    return shlex.join(str(word) for word in words) if isinstance(words, list) else str(words or "")


def _folds(benchmark: Benchmark) -> str:
    """How cases were shared out, in words."""
    for key, text in (("first", "trained on the first {} cases"), ("last", "tested on the last {} cases")):
        if benchmark.about.get(key) is not None:
            return text.format(benchmark.about[key])
    folds = benchmark.about.get("folds")
    return f"{folds}-fold cross-validation" if isinstance(folds, int) and folds > 1 else f"folds: {folds}"


def _key(style: Style) -> Markup:
    """A method's marker for legends and tables."""
    canvas = Canvas(14, 14, style.label)
    canvas.marker(style, 7, 7, 5)
    return canvas.markup()


def _findings(
    benchmark: Benchmark, styles: Mapping[str, Style], labels: int | None, rows: Sequence[MethodRow]
) -> list[str]:
    """What the tables say, in sentences."""
    if not rows:
        return []
    best = rows[0]
    place = " ranks first" if len(rows) > 1 else ""
    found = [f"{best.style.label}{place}: mean Dice {best.mean} (95% interval {best.interval})."]
    matrix = dict(significance_matrix(benchmark, styles, "dice", labels))
    if best.style in matrix:
        columns = list(matrix)
        better = [
            s.label for s, cell in zip(columns, matrix[best.style], strict=True) if cell.verdict == "better"
        ]
        same = [
            s.label for s, cell in zip(columns, matrix[best.style], strict=True) if cell.verdict == "none"
        ]
        worse = [
            s.label for s, cell in zip(columns, matrix[best.style], strict=True) if cell.verdict == "worse"
        ]
        if better:
            found.append(
                f"Its Dice is higher than that of {_list(better)} (p < 0.05 after Holm's correction)."
            )
        if same:
            found.append(_undecided(same, cases=best.n, pairs=len(matrix) * (len(matrix) - 1) // 2))
        if worse:
            found.append(f"Its Dice is lower than that of {_list(worse)}: ranks count surfaces too.")
    failed = sum(row.failed for row in rows)
    if failed:
        found.append(
            f"{failed} segmentation{'s' * (failed != 1)} failed and count{'s' * (failed == 1)} with the worst scores."
        )
    return found


def _undecided(same: Sequence[str], *, cases: int, pairs: int) -> str:
    """Where a test found nothing: because there is little to be found, or because it could not have found anything.

    Of n differences that all have one sign, the two-sided signed-rank test has p = 2 / 2^n, and nothing is below that.
    """
    if pairs * 2.0 ** (1 - cases) >= 0.05:
        return (
            f"Whether its Dice differs from that of {_list(same)} cannot be tested: with {cases} cases and {pairs} "
            f"pair{'s' * (pairs != 1)} of methods no difference, however large, has p < 0.05."
        )
    return f"No difference in Dice from {_list(same)} was found."


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _render(content: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("atlaseg.workflows.report_page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source, _, _ = PackageLoader("atlaseg.workflows.report_page", ".").get_source(environment, "page.css")
    return environment.get_template("page.html.j2").render(**content, css=Markup(source))  # noqa: S704 - our own
