from __future__ import annotations

import json
import os

import pytest

from atlaseg.pipeline.errors import DatasetError, UnreadableFileError
from atlaseg.workflows.report_page.benchmark_tables import with_labels
from atlaseg.workflows.report_page.folder import read_benchmark


def test_names_stay_text_and_numbers_numbers(hostile_benchmark):
    found = read_benchmark(hostile_benchmark.out)
    assert found.cases == sorted(hostile_benchmark.cases)
    assert {"NA", "007"} <= set(found.cases)
    assert found.structures == {1: "<script>alert(4)</script>", 7: "</svg><img src=x>"}
    failed = found.tables["scores"].query("failed == 1")
    assert set(failed["case"]) == {"NA"}
    assert found.tables["times"]["seconds"].dtype == float


@pytest.mark.thorough
def test_numbers_of_labels_rise_and_all_comes_last(made_benchmark):
    found = read_benchmark(made_benchmark.out)
    assert found.labels == (5, 10, None)
    sizes = [len(with_labels(found.tables["scores"], n)) for n in (5, 10, None, 7)]
    assert sizes[0] == sizes[1] == sizes[2] > 0 == sizes[3]
    assert set(found.summary("dice", 10).index) == {m.name for m in found.methods}
    assert set(found.scores("dice", 10, "Anterior")["structure"]) == {"Anterior"}


@pytest.mark.thorough
def test_of_two_cells_of_a_method_the_newer_counts(make_benchmark):
    out = make_benchmark(methods=(("majority", "majority", {}, 1.0),), probabilities=False, folds=1).write()
    (seal,) = out.glob("cells/*/*/*/cell.json")
    other = out / "cells" / "another" / "labels-all" / "fold-0" / "cell.json"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps(json.loads(seal.read_text()) | {"confusion": None}))
    os.utime(seal, (1, 1))
    (cell,) = read_benchmark(out).cells
    assert cell.path == other.parent
    assert cell.confusion is None
    other.write_text(json.dumps({"method": "majority"}))
    with pytest.raises(UnreadableFileError, match="expected method, labels, fold, test"):
        read_benchmark(out)


def test_tables_that_are_none(make_benchmark):
    out = make_benchmark(methods=(("majority", "majority", {}, 1.0),), probabilities=False).write()
    text = (out / "scores.csv").read_text()
    (out / "scores.csv").write_text(text.replace("metric", "measure", 1))
    with pytest.raises(UnreadableFileError, match="expected a column 'metric'"):
        read_benchmark(out)
    (out / "scores.csv").write_text(text.splitlines()[0] + "\n")
    with pytest.raises(DatasetError, match="holds no scores yet"):
        read_benchmark(out)
    (out / "scores.csv").write_text(text.replace(",0,", ",zero,", 1))
    with pytest.raises(UnreadableFileError, match=r"scores\.csv: not readable as a table"):
        read_benchmark(out)


def test_tables_of_two_definitions_of_a_surface(make_benchmark):
    out = make_benchmark(methods=(("majority", "majority", {}, 1.0),), probabilities=False).write()
    assert read_benchmark(out).surface == "voxels"
    about = json.loads((out / "benchmark.json").read_text()) | {"surface": "elements"}
    (out / "benchmark.json").write_text(json.dumps(about))
    with pytest.raises(DatasetError, match="surfaces are made of elements and of voxels in the tables"):
        read_benchmark(out)
