"""The table of metrics: its columns, the rule for empty masks, and a metric that a package adds."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import DatasetError, OptionError, PackageError
from atlaseg.pipeline.evaluation.long_table import long_table, score_rows
from atlaseg.pipeline.evaluation.method_summary import summarise_methods
from atlaseg.pipeline.evaluation.metrics import (
    METRICS,
    Metric,
    drawn_metrics,
    main_metric,
    ranked_metrics,
    tested_metrics,
)
from atlaseg.pipeline.evaluation.ranking import rank_methods
from atlaseg.pipeline.evaluation.score_files import write_csv
from atlaseg.pipeline.evaluation.scores import missing_prediction, score_case, score_columns
from atlaseg.pipeline.evaluation.significance import compare_methods
from atlaseg.pipeline.evaluation.statistics import summarise

LABELS = LabelTable.from_names({"a": 1})
SPACING = (1.0, 2.0, 2.0)
PACKAGE = """
import numpy as np
from atlaseg.pipeline.evaluation.metrics import Metric

def farthest(pair):
    return max(pair.distances.to_reference.distances.max(), pair.distances.to_prediction.distances.max())

def broken(pair):
    raise ZeroDivisionError("by nothing")

def endless(pair):
    return np.inf

HAUSDORFF = Metric(
    "hausdorff_mm", "the largest distance", "surfacepkg:farthest",
    label="Hausdorff", unit="mm", better="low", best=0.0, worst="diagonal",
)
BROKEN = Metric("broken", "fails", "surfacepkg:broken", label="broken")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package that adds the metrics of these entry points."""

    def install(*lines):
        (tmp_path / "surfacepkg.py").write_text(PACKAGE)
        folder = tmp_path / "surfacepkg-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: surfacepkg\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("\n".join(["[atlaseg.metrics]", *lines, ""]))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "surfacepkg", raising=False)

    return install


def cube(start=1, stop=4):
    mask = np.zeros((8, 8, 8), int)
    mask[start:stop, 1:4, 1:4] = 1
    return mask


def test_columns_are_those_of_version_0_1():
    assert score_columns() == (
        *("case", "structure", "value", "dice", "iou", "precision", "recall", "accuracy"),
        *("volume_reference_ml", "volume_prediction_ml", "volume_difference_ml", "volume_difference_percent"),
        *("hd95_mm", "assd_mm", "surface_dice", "surface", "note"),
    )
    assert [m.name for m in tested_metrics()] == ["dice", "surface_dice", "hd95_mm", "assd_mm"]
    assert [m.name for m in drawn_metrics()] == ["dice", "surface_dice", "hd95_mm"]
    assert [m.name for m in ranked_metrics()] == ["dice", "hd95_mm"]
    assert main_metric().name == "dice"


@pytest.mark.parametrize("metric", METRICS.rows(), ids=lambda metric: metric.name)
def test_rows_say_what_the_functions_do(metric):
    """The best value is that of equal masks; bounds hold; the worst is not beaten."""
    shifted = [score_case(np.roll(cube(), n, 0), cube(), LABELS, SPACING)[0][metric.name] for n in (0, 2)]
    gone = missing_prediction(cube(), LABELS, SPACING).scores[0][metric.name]
    low, high = metric.bounds
    if metric.better != "none":
        assert shifted[0] == metric.best
    for value in (*shifted, gone):
        assert low is None or value >= low
        assert high is None or value <= high
    if metric.better in ("high", "low"):
        sign = 1 if metric.better == "high" else -1
        assert sign * shifted[0] > sign * shifted[1] >= sign * gone
    assert metric.summary
    assert metric.label in metric.title or metric.label[1:] in metric.title


def test_the_page_on_scores_defines_every_column():
    page = Path(__file__).parents[3] / "docs" / "explanation" / "scores.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    defined = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(METRICS.names()) <= defined


def test_titles():
    assert METRICS.find("hd95_mm").title == "HD95 (mm)"
    assert METRICS.find("surface_dice").title == "Surface Dice"
    assert METRICS.find("surface_dice").title_at(1.5) == "Surface Dice at 1.5 mm"
    assert METRICS.find("dice").title_at(1.5) == "Dice"
    assert [METRICS.find(name).decimals for name in ("dice", "hd95_mm")] == [3, 2]


def test_what_cannot_be_ranked_by():
    assert [m.name for m in ranked_metrics(["iou", "iou"])] == ["iou"]
    with pytest.raises(OptionError, match="'volume_difference_ml' cannot be ranked by; choose of dice"):
        ranked_metrics(["volume_difference_ml"])
    with pytest.raises(OptionError, match="no metric 'dise'"):
        ranked_metrics(["dise"])


def test_a_metric_of_a_package_is_in_every_table(package, tmp_path):
    package("hausdorff_mm = surfacepkg:HAUSDORFF")
    scores = {
        name: [score_case(np.roll(cube(), n, 0), cube(), LABELS, SPACING, case=c)[0] for c in "xy"]
        for name, n in (("near", 1), ("far", 3))
    }
    assert scores["near"][0]["hausdorff_mm"] == 1
    assert scores["far"][0]["hausdorff_mm"] == 3
    (gone,) = missing_prediction(cube(), LABELS, SPACING).scores
    assert gone["hausdorff_mm"] == gone["hd95_mm"] == pytest.approx(24)
    write_csv(tmp_path / "scores.csv", scores["far"])
    assert pd.read_csv(tmp_path / "scores.csv")["hausdorff_mm"].tolist() == [3, 3]
    assert summarise(scores["far"])[0].metrics["hausdorff_mm"].mean == 3
    table = long_table(row for name, of in scores.items() for row in score_rows(of, name, 0, None))
    assert "hausdorff_mm" in set(summarise_methods(table)["metric"])
    assert "hausdorff_mm" in set(compare_methods(table)["metric"])
    assert list(rank_methods(table, ["hausdorff_mm"])["method"]) == ["near", "far"]
    assert drawn_metrics()[-1].name == "hausdorff_mm"


def test_a_metric_that_fails_is_told_by_its_package(package):
    package("broken = surfacepkg:BROKEN")
    with pytest.raises(PackageError, match=r"surfacepkg 1.0: metric broken failed \(ZeroDivisionError"):
        score_case(cube(), cube(), LABELS, SPACING)


def test_a_number_that_is_none_is_refused(package):
    package()
    import surfacepkg  # noqa: F401 (so that its function can be named)

    metric = Metric("endless", "never ends", "surfacepkg:endless", label="endless", takes_empty=True)
    from atlaseg.pipeline.evaluation.mask_pair import mask_pairs

    (pair,) = mask_pairs(cube(), cube(), np.diag([0, 27]), SPACING)
    with pytest.raises(DatasetError, match="metric endless is inf"):
        metric.compute(pair)
