"""The page: its sections made, and the template filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.context import Context, labels_text, most_labels, scans_text
from atlaseg.workflows.report_page.findings import findings
from atlaseg.workflows.report_page.method_names import marked_name
from atlaseg.workflows.report_page.palette import method_styles
from atlaseg.workflows.report_page.protocol import folds_text
from atlaseg.workflows.report_page.sections import SECTIONS
from atlaseg.workflows.report_page.texts_without_paths import without_paths
from atlaseg.workflows.report_page.voxels import find_truths

__all__ = ["Page", "make_page"]


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


def make_page(benchmark: Benchmark, dataset: Path | None = None, worst_cases: int = 4) -> Page:
    """One self-contained HTML page from a benchmark's folder.

    Args:
        benchmark: the folder.
        dataset: folder of its data set; by default where the benchmark found it.
        worst_cases: how many are drawn; with 0 the page holds no voxel of a scan.

    Raises:
        MissingFileError, DatasetError: ``dataset`` was given and is not a data set.
    """
    context = Context(
        benchmark=benchmark,
        styles=method_styles(benchmark.methods),
        labels=most_labels(benchmark),
        truths=find_truths(benchmark, dataset),
        worst_cases=worst_cases,
    )
    return Page(_render(_content(context)), context.problems, context.truths is not None)


def _content(context: Context) -> dict[str, Any]:
    """Everything that the template names."""
    benchmark = context.benchmark
    sections = [
        (section, section.title.format(metric=context.main.label), blocks)
        for section in SECTIONS
        if (blocks := section.blocks(context))
    ]
    several = len(benchmark.labels) > 1
    numbers = ", ".join(map(labels_text, benchmark.labels)) + " labelled training scans"
    return {
        "dataset": without_paths(benchmark.dataset),
        "cases": len(benchmark.cases),
        "structures": len(benchmark.structures),
        "folds": folds_text(benchmark),
        "scans": numbers if several else scans_text(context.labels),
        "seed": benchmark.about["seed"],
        "finished": bool(benchmark.about.get("finished")),
        "findings": findings(context),
        "methods": [marked_name(style) for style in context.styles.values()],
        "sections": sections,
    }


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
