"""Charts and tables: numbers are where they belong, styles are distinct."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from atlaseg.pipeline.evaluation.metrics import METRICS, drawn_metrics
from atlaseg.pipeline.overlay_colours import METHOD_COLOURS
from atlaseg.workflows.report_page.benchmark_tables import MethodEntry
from atlaseg.workflows.report_page.box_plots import box_plots
from atlaseg.workflows.report_page.confusion import confusion_figures
from atlaseg.workflows.report_page.context import Context
from atlaseg.workflows.report_page.costs import costs
from atlaseg.workflows.report_page.drawing import Scale, linear_scale, log_scale
from atlaseg.workflows.report_page.folder import read_benchmark
from atlaseg.workflows.report_page.learning_curves import learning_curves
from atlaseg.workflows.report_page.methods_table import method_rows
from atlaseg.workflows.report_page.palette import method_styles
from atlaseg.workflows.report_page.significance_matrix import significance_matrix
from atlaseg.workflows.report_page.structures import structure_rows
from atlaseg.workflows.report_page.time_against_score import time_figures


@pytest.fixture(scope="module")
def found(made_benchmark):
    return read_benchmark(made_benchmark.out)


@pytest.fixture(scope="module")
def styles(found):
    return method_styles(found.methods)


def entry(kind, **options):
    words = ",".join(f"{key}={value}" for key, value in options.items())
    return MethodEntry(f"{kind}:{words}" if words else kind, kind, options)


def test_labels_say_what_differs():
    methods = (
        entry("unet", depth="context", minutes=12),
        entry("unet", depth="deep", minutes=12),
        entry("majority"),
    )
    assert [s.label for s in method_styles(methods).values()] == [
        "unet depth=context",
        "unet depth=deep",
        "majority",
    ]


def test_many_methods_look_different():
    styles = method_styles([entry("unet", minutes=n) for n in range(40)])
    assert len({(s.colour, s.marker, s.dash) for s in styles.values()}) == 40
    assert len({s.colour for s in list(styles.values())[: len(METHOD_COLOURS)]}) == len(METHOD_COLOURS)


def test_scales():
    scale = linear_scale(0.61, 0.98, 0, 100)
    assert scale.low <= 0.61 < 0.98 <= scale.high
    assert scale(scale.low) == 0
    assert scale(scale.high) == 100
    assert scale(5) == 100
    same = linear_scale(0.9, 0.9, 0, 100)
    assert same.low <= 0.9 <= same.high
    logarithmic = log_scale(1, 1000, 0, 100)
    assert logarithmic(np.sqrt(1000)) == pytest.approx(50)
    assert len(log_scale(1e-3, 1e5, 0, 1).ticks) <= 10
    assert all(log_scale(value, value, 0, 1).ticks for value in (0.7, 2.1, 3, 40, 99))
    assert Scale(1, 1, 0, 10, ())(1) == 5


@pytest.mark.thorough
def test_median_lines_are_at_the_medians(found, styles):
    figures = box_plots(found, styles, METRICS.find("dice"), None)
    assert len(figures) == 3
    rows = found.scores("dice", None, "Anterior")
    root = ET.fromstring(str(figures[0]))
    tips = [t.text for t in root.iter("title") if "median" in t.text]
    for style, tip in zip(styles.values(), tips, strict=True):
        values = rows.loc[rows["method"] == style.name, "value"].to_numpy()
        assert tip.startswith(f"{style.label}: median {np.median(values):.3f}")
    points = [t.text for t in root.iter("title") if t.text.startswith("case_")]
    assert len(points) == len(rows)
    assert "case_03: 0.000, failed" in points
    assert box_plots(found, styles, METRICS.find("dice"), 7) == []


def test_learning_curves_have_a_point_for_each_number(found, styles, make_benchmark):
    figures = learning_curves(found, styles, METRICS.find("dice"))
    assert len(figures) == 4  # all structures, and each
    tips = [t.text for t in ET.fromstring(str(figures[0])).iter("title")]
    means = found.summary("dice", 5)["mean"]
    for style in styles.values():
        assert any(t.startswith(f"{style.label}, 5 labels: {means[style.name]:.3f}") for t in tips)
        assert any(t.startswith(f"{style.label}, all labels: ") for t in tips)


def test_rows_are_ranked_and_the_best_marked(found, styles):
    rows = method_rows(found, styles, drawn_metrics(), None)
    ranks = [float(row.rank) for row in rows]
    assert ranks == sorted(ranks)
    assert sum("mean" in row.best for row in rows) == 1
    best = max(rows, key=lambda row: float(row.mean))
    assert "mean" in best.best
    assert min(rows, key=lambda row: float(row.others["hd95_mm"])).best >= {"hd95_mm"}
    (hd95, *_) = structure_rows(found, styles, METRICS.find("hd95_mm"), None)
    values = [float(mean) for mean, _, _ in hd95.cells]
    assert [is_best for _, _, is_best in hd95.cells].index(True) == int(np.argmin(values))


def test_matrix_is_antisymmetric(found, styles):
    for metric, better in (("dice", 1), ("hd95_mm", -1)):
        matrix = significance_matrix(found, styles, METRICS.find(metric), None)
        for i, (_, row) in enumerate(matrix):
            assert row[i].verdict == "self"
            for j, (_, column) in enumerate(matrix):
                if i == j:
                    continue
                here, there = (float(c.difference.replace("−", "-")) for c in (row[j], column[i]))
                assert here == pytest.approx(-there)
                assert row[j].p == column[i].p
                if row[j].verdict == "better":
                    assert here * better > 0
                    assert column[i].verdict == "worse"


def test_costs_are_means_of_folds_and_medians_of_cases(found, styles):
    times = found.tables["times"]
    rows = times[times["labels"].isna() & (times["method"] == "majority")]
    cost = costs(found, None)["majority"]
    assert cost.fit_seconds == pytest.approx(rows.query("stage == 'fit'")["seconds"].mean())
    assert cost.segment_seconds == pytest.approx(rows.query("stage == 'segment'")["seconds"].median())
    assert len(time_figures(Context(found, styles))) == 2


def test_confusion_is_in_percent_of_the_truth(styles):
    name = next(iter(styles))
    (figure,) = confusion_figures({name: np.array([[90, 10], [0, 0]])}, styles, ["background", "a <b>"])
    tips = [t.text for t in ET.fromstring(str(figure)).iter("title")]
    assert tips == [
        *("background labelled as background: 90.00%", "background labelled as a <b>: 10.00%"),
        *("a <b> labelled as background: 0.00%", "a <b> labelled as a <b>: 0.00%"),
    ]
    many = [f"structure {n}" for n in range(38)]
    (figure,) = confusion_figures({name: np.eye(38, dtype=int)}, styles, many)
    assert len(re.findall("<rect", figure)) == 38 * 38
    assert "100.0<" not in figure  # no room for numbers
