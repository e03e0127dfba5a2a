from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from atlaseg.pipeline.errors import DatasetError, MissingFileError, OptionError, UnreadableFileError
from atlaseg.workflows.report import Report
from atlaseg.workflows.report_page.findings import undecided

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Parsed(HTMLParser):
    """Elements, attributes and text of a page; complains where tags are not closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if {"th", "td"} & set(self.open) and "svg" not in self.open:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


@pytest.fixture(scope="module")
def page(made_benchmark, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert Report(made_benchmark.out, out).run() == 0
    return out.read_text(encoding="utf-8")


def copy_of(made_benchmark, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_benchmark.out, tmp_path / "copy"))


def test_everything_is_there(page):
    text = Parsed(page).text
    for heading in (
        *("Methods", "Structures", "Learning curves", "Significance", "Worst cases", "Time against Dice"),
        *("Confusion between structures", "Calibration", "Failures", "How it was made"),
    ):
        assert re.search(rf"<h2>{heading}</h2>", page)
    for said in (
        "5, 10, all",
        "2-fold cross-validation",
        "torch 2.13.0",
        "AMD EPYC 7B13",
        "seed 0",
        "ECE 0.",
    ):
        assert said in text
    assert "atlaseg benchmark Task04_Hippocampus --methods" in text
    assert "Not finished" not in text


def test_it_needs_nothing_else(page):
    parsed = Parsed(page)
    assert not {"script", "iframe", "object", "embed", "img", "form"} & {tag for tag, _ in parsed.tags}
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "data", "srcset"):
            if name in attributes:
                assert attributes[name].startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in page
    assert "url(" not in page


def test_links_lead_somewhere(page):
    tags = Parsed(page).tags
    names = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {a["href"][1:] for _, a in tags if str(a.get("href", "")).startswith("#")}
    assert targets <= set(names)


def test_no_paths(page, made_benchmark):
    assert str(made_benchmark.folder) not in page
    assert "Doe" not in page
    assert not re.search(r"(?<![\w<])/(?:tmp|home|var|root|work|Users)/", page)


def test_the_table_holds_the_scores(page, made_benchmark):
    with (made_benchmark.out / "scores.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"] == "dice" and row["labels"] == ""]
    for method, label in (("joint-fusion", "joint-fusion"), ("watershed", "watershed")):
        of_method = [row for row in rows if row["method"] == method]
        means = {
            case: np.mean([float(row["value"]) for row in of_method if row["case"] == case])
            for case in {row["case"] for row in of_method}
        }
        worst = min(means, key=means.get)
        line = next(row for row in Parsed(page).rows if row and re.fullmatch(rf"\d {label}.*", row[0]))
        assert line[2] == f"{np.mean(list(means.values())):.3f}"
        assert line[5] == f"{np.median(list(means.values())):.3f}"
        assert line[6] == f"{means[worst]:.3f} {worst}"
        assert line[9] == ("1 / 6" if method == "watershed" else "0 / 6")


def test_failed_cases_are_listed_with_their_reason(page):
    lines = [row for row in Parsed(page).rows if row and row[0] == "case_03"]
    assert [line[1:4] for line in lines] == [["6 watershed", few, "0"] for few in ("5", "10", "all")]
    assert all("<b>not</b> registered" in line[4] for line in lines)


@pytest.mark.thorough
def test_names_are_text(hostile_benchmark, tmp_path):
    out = tmp_path / "report.html"
    assert Report(hostile_benchmark.out, out).run() == 0
    parsed = Parsed(out.read_text(encoding="utf-8"))
    assert not {"script", "img"} & {tag for tag, _ in parsed.tags}
    for name in (*hostile_benchmark.cases, *hostile_benchmark.structures):
        assert name in parsed.text
    assert any(row and row[0] == "NA" for row in parsed.rows)


@pytest.mark.thorough
def test_data_set_that_has_moved(made_benchmark, tmp_path, capsys):
    folder = copy_of(made_benchmark, tmp_path)
    (folder / "dataset.path").write_text(str(tmp_path / "gone"))
    assert Report(folder).run() == 0
    assert "give its folder by --dataset" in capsys.readouterr().err
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/png" not in page
    assert "Not drawn: the data set has moved since the benchmark" in page
    # confusion comes from the cells
    assert "Confusion matrix of joint-fusion" in page
    assert Report(folder, dataset=made_benchmark.dataset).run() == 0
    assert "data:image/png" in (folder / "report.html").read_text(encoding="utf-8")
    with pytest.raises(MissingFileError, match="gone"):
        Report(folder, dataset=tmp_path / "gone").run()


@pytest.mark.thorough
def test_no_voxels_where_none_are_wanted(made_benchmark, tmp_path):
    out = tmp_path / "report.html"
    assert Report(made_benchmark.out, out, worst_cases=0).run() == 0
    assert "data:image/png" not in out.read_text(encoding="utf-8")


@pytest.mark.thorough
def test_files_that_cannot_be_read_are_listed(made_benchmark, tmp_path, capsys):
    folder = copy_of(made_benchmark, tmp_path)
    for volume in folder.glob("cells/joint-fusion-*/labels-all/fold-*/probabilities/case_02.nii.gz"):
        volume.write_bytes(b"broken")
    assert Report(folder).run() == 1
    assert "joint-fusion, case case_02" in capsys.readouterr().err
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Files that could not be used" in page
    assert str(folder) not in page


def test_a_metric_of_a_package_has_figures(make_benchmark, tmp_path, monkeypatch):
    (tmp_path / "farpkg.py").write_text(
        "from atlaseg.pipeline.evaluation.metrics import Metric\n"
        "def far(pair):\n"
        "    return float(pair.distances.to_reference.distances.max())\n"
        "FAR = Metric('far_mm', 'the farthest voxel', 'farpkg:far', label='farthest', unit='mm', better='low',\n"
        "             best=0.0, worst='diagonal')\n"
    )
    (tmp_path / "farpkg-1.dist-info").mkdir()
    (tmp_path / "farpkg-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: farpkg\nVersion: 1\n"
    )
    (tmp_path / "farpkg-1.dist-info" / "entry_points.txt").write_text(
        "[atlaseg.metrics]\nfar_mm = farpkg:FAR\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    methods = (("majority", "majority", {}, 1.0), ("kmeans", "kmeans", {}, 3.0))
    made = make_benchmark(methods=methods, probabilities=False)
    assert Report(made.write()).run() == 0
    page = (made.out / "report.html").read_text(encoding="utf-8")
    assert "Farthest (mm) of each structure" in page
    assert "Box plot of Farthest (mm) of Anterior" in page
    assert "<b>Farthest</b>: the farthest voxel." in page
    with (made.out / "scores.csv").open(encoding="utf-8") as stream:
        far = [float(row["value"]) for row in csv.DictReader(stream) if row["metric"] == "far_mm"]
    assert len(far) == 2 * 6 * 3
    assert min(far) > 0


@pytest.mark.thorough
def test_unfinished(make_benchmark, tmp_path):
    made = make_benchmark(finished=False, methods=(("majority", "majority", {}, 1.0),), probabilities=False)
    assert Report(made.write()).run() == 0
    text = Parsed((made.out / "report.html").read_text(encoding="utf-8")).text
    assert "Not finished." in text
    assert "ranks first" not in text
    assert "No probabilities were kept" in text
    assert "Comparison of 1 segmentation method on" in text
    assert "Holm's correction over all pairs" not in text


@pytest.mark.thorough
def test_it_says_where_a_test_cannot_find_anything(make_benchmark):
    """Of five cases the signed-rank test has p = 1/16 at least, whatever the difference."""
    methods = (("majority", "majority", {}, 1.0), ("kmeans", "kmeans", {}, 4.0))
    made = make_benchmark(methods=methods, cases=[f"case_{n}" for n in range(5)], probabilities=False)
    assert Report(made.write()).run() == 0
    text = Parsed((made.out / "report.html").read_text(encoding="utf-8")).text
    assert "differs from that of kmeans cannot be tested: with 5 cases and 1 pair of methods no diff" in text
    assert "No difference" not in text
    assert undecided(["kmeans"], "Dice", cases=6, pairs=1) == "No difference in Dice from kmeans was found."
    assert "with 7 cases and 6 pairs of methods" in undecided(["kmeans", "gmm"], "Dice", cases=7, pairs=6)


@pytest.mark.thorough
def test_what_is_refused(made_benchmark, tmp_path):
    with pytest.raises(MissingFileError, match="--out folder of atlaseg benchmark"):
        Report(tmp_path / "nowhere").run()
    with pytest.raises(MissingFileError, match=r"benchmark\.json"):
        Report(tmp_path).run()
    with pytest.raises(OptionError, match=r"an \.html file"):
        Report(made_benchmark.out, tmp_path).run()
    with pytest.raises(OptionError, match="0 or more, found -1"):
        Report(made_benchmark.out, worst_cases=-1).run()
    folder = copy_of(made_benchmark, tmp_path)
    about = json.loads((folder / "benchmark.json").read_text())
    (folder / "benchmark.json").write_text(json.dumps(about | {"format": 2}))
    with pytest.raises(DatasetError, match="expected format 1, found '2'"):
        Report(folder).run()
    (folder / "benchmark.json").write_text(json.dumps(about | {"methods": [{}]}))
    with pytest.raises(UnreadableFileError, match="methods, labels and structures"):
        Report(folder).run()
    (folder / "benchmark.json").write_text(json.dumps(about | {"methods": about["methods"][1:]}))
    with pytest.raises(DatasetError, match="does not name method 'joint-fusion'"):
        Report(folder).run()
    (folder / "benchmark.json").write_text(json.dumps(about))
    for name in ("ranking", "summary", "scores"):
        table = (folder / f"{name}.csv").read_text()
        (folder / f"{name}.csv").write_text(table + table.splitlines()[1] + "\n")
        with pytest.raises(UnreadableFileError, match=rf"{name}\.csv: two rows for "):
            Report(folder).run()
        (folder / f"{name}.csv").write_text(table)
    same = dict.fromkeys(about["structures"], "same") | {"77": "same"}
    (folder / "benchmark.json").write_text(json.dumps(about | {"structures": same}))
    with pytest.raises(DatasetError, match="two structures are called 'same'"):
        Report(folder).run()
    (folder / "benchmark.json").write_text(json.dumps(about))
    (folder / "ranking.csv").unlink()
    with pytest.raises(MissingFileError, match=r"ranking\.csv"):
        Report(folder).run()
