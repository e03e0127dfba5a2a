"""How the benchmark was made: data, split, seed, machine, command, versions, and the definitions of the scores."""

from __future__ import annotations

import shlex
from typing import Any

from markupsafe import Markup

from atlaseg.pipeline.evaluation.metrics import Metric
from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.blocks import Block, Html
from atlaseg.workflows.report_page.context import Context, labels_text
from atlaseg.workflows.report_page.method_names import marked_name
from atlaseg.workflows.report_page.texts_without_paths import without_paths

__all__ = ["folds_text", "protocol_blocks"]

_SURFACES = {
    "voxels": "the voxels of a structure that touch the outside, each counting the same",
    "elements": "elements between voxels, weighted by their area (Nikolov et al. 2021)",
}


def folds_text(benchmark: Benchmark) -> str:
    """Describe the folds in words."""
    for key, text in (("first", "trained on the first {} cases"), ("last", "tested on the last {} cases")):
        if benchmark.about.get(key) is not None:
            return text.format(benchmark.about[key])
    folds = benchmark.about.get("folds")
    return f"{folds}-fold cross-validation" if isinstance(folds, int) and folds > 1 else f"folds: {folds}"


def protocol_blocks(context: Context) -> list[Block]:
    """List of data, settings and versions, and the definitions of the scores."""
    benchmark, about = context.benchmark, context.benchmark.about
    structures = ", ".join(f"{name} ({value})" for value, name in benchmark.structures.items())
    numbers = ", ".join(map(labels_text, benchmark.labels))
    cores = f", {about['cores']} core{'' if about['cores'] == 1 else 's'}" if about["cores"] else ""
    methods = Markup().join(
        Markup("<li>{}{}</li>").format(
            marked_name(style),
            Markup(" <code>{}</code>").format(style.name) if style.name != style.label else "",
        )
        for style in context.styles.values()
    )
    versions = Markup(", ").join(
        Markup('<span class="version">{} {}</span>').format(package, version)
        for package, version in (about.get("versions") or {}).items()
    )
    entries = {
        "Data": f"{without_paths(benchmark.dataset)}, {len(benchmark.cases)} test cases; structures: {structures}",
        "Split": f"{folds_text(benchmark)}; every method sees the same training cases. Labelled training scans of a "
        f"fold: {numbers}",
        "Seed": about["seed"],
        "Machine": f"{about['cpu'] or 'unknown'}{cores}",
        "Command": Markup("<pre>{}</pre>").format(without_paths(_command(about.get("command")))),
        "Methods": Markup('<ul class="plain">{}</ul>').format(methods),
        "Versions": versions,
    }
    lines = Markup("\n").join(Markup("<dt>{}</dt><dd>{}</dd>").format(*entry) for entry in entries.items())
    return [
        Html(Markup("<dl>\n{}\n</dl>").format(lines)),
        Html(Markup("<h3>Definitions</h3>")),
        Html(_definitions(context)),
        Html(Markup('<p class="soft">Research software; not a medical device.</p>')),
    ]


def _command(words: Any) -> str:
    return shlex.join(str(word) for word in words) if isinstance(words, list) else str(words or "")


def _definitions(context: Context) -> Markup:
    tolerance = context.benchmark.about["tolerance_mm"]
    near = f"{tolerance:g} mm" if isinstance(tolerance, int | float) else "the tolerance"
    of_metrics = Markup("\n").join(_definition(metric, near) for metric in context.metrics)
    return Markup(
        "<p>{}\n"
        "<b>Surfaces</b> are made of {}. <b>Failed</b> cases get the worst possible score and stay in every mean.\n"
        "<b>Interval</b>: percentile bootstrap over cases (Efron and Tibshirani 1993). <b>p</b>: Wilcoxon signed-rank "
        "test on the cases' means over structures (Wilcoxon 1945), corrected by Holm's procedure (Holm 1979).\n"
        "<b>Rank</b>: methods are ranked in each case by the mean over its structures, then ranks are averaged "
        "(Maier-Hein et al. 2018, doi:10.1038/s41467-018-07619-7).\n"
        "<b>ECE</b>: Guo et al. 2017, arXiv:1706.04599.</p>"
    ).format(of_metrics, _SURFACES[context.benchmark.surface])


def _definition(metric: Metric, tolerance: str) -> Markup:
    said = metric.summary.replace("the tolerance", tolerance) if metric.at_tolerance else metric.summary
    return Markup("<b>{}</b>: {}.").format(metric.title.partition(" (")[0], said)
