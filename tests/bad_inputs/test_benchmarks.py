"""Folders of benchmarks broken in each file: `report` and `benchmark` name the file in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.bad_inputs.conftest import Good, Judge

pytestmark = pytest.mark.slow

TABLES = {
    "scores": "case,structure,method,fold,labels,metric,value,failed",
    "times": "method,fold,labels,case,stage,seconds,cpu_seconds,peak_mib",
    "failures": "method,fold,labels,case,error",
    "summary": "method,labels,structure,metric,mean,median,sd,low,high,worst,worst_case,n,failed",
    "significance": "labels,metric,method_a,method_b,n,difference,p,p_holm",
    "ranking": "labels,method,rank",
}
ROWS = {
    "scores": ["c0,a,kmeans,0,,dice,0.5,0", "c0,b,kmeans,0,,dice,0.6,0"],
    "summary": [f"kmeans,,{name},dice,0.5,0.5,0,,,0.5,c0,1,0" for name in ("a", "b", "all structures")],
    "ranking": [",kmeans,1"],
}
ABOUT: dict[str, Any] = {
    "format": 1,
    "dataset": "made",
    "methods": [{"name": "kmeans", "method": "kmeans", "kind": "classical", "options": {}}],
    "labels": [None],
    "structures": {"1": "a", "2": "b"},
    "seed": 0,
    "folds": 2,
    "tolerance_mm": 1.0,
    "cases": 1,
    "finished": True,
}
CELL = {
    "format": 1,
    "method": "kmeans",
    "labels": None,
    "fold": 0,
    "training": [],
    "test": ["c0"],
    "scores": [],
}


@pytest.fixture
def benchmark(judge: Judge) -> Path:
    folder = judge.folder / "benchmark"
    cell = folder / "cells" / "kmeans-1" / "labels-all" / "fold-0"
    cell.mkdir(parents=True)
    (cell / "cell.json").write_text(json.dumps(CELL))
    (folder / "benchmark.json").write_text(json.dumps(ABOUT))
    for name, heading in TABLES.items():
        (folder / f"{name}.csv").write_text("\n".join([heading, *ROWS.get(name, [])]) + "\n")
    return folder


def test_the_benchmark_itself_is_taken(benchmark: Path, judge: Judge, capsys: Any) -> None:
    from atlaseg.workflows.cli import main

    assert main(["report", str(benchmark), "--out", str(judge.folder / "page.html")]) == 0, (
        capsys.readouterr()
    )


TEXTS = {
    "empty": "",
    "binary": "\x00\x01\xff",
    "deep": "[" * 100_000,
    "list": "[1]",
    "text": '"text"',
    "number": "3",
    "null": "null",
    "object": "{}",
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["benchmark.json", "cells/kmeans-1/labels-all/fold-0/cell.json"])
def test_json(name: str, text: str, benchmark: Path, judge: Judge) -> None:
    (benchmark / name).write_bytes(TEXTS[text].encode("latin-1"))
    judge.refused("report", benchmark, code=2, says=Path(name).name)


@pytest.mark.parametrize(
    "entries",
    [
        {"format": 2},
        {"format": [1]},
        {"methods": 3},
        {"methods": []},
        {"methods": [3]},
        {"methods": [{}]},
        {"methods": [{"name": "kmeans", "method": "kmeans", "options": 3}]},
        {"methods": ABOUT["methods"] * 2},
        {"labels": 3},
        {"labels": ["x"]},
        {"labels": [1e400]},
        {"structures": []},
        {"cpu": [1]},
        {"cores": "many"},
        {"versions": 3},
        {"tolerance_mm": "x"},
        {"structures": {"x": "a"}},
        {"structures": {"1": "a", "2": "a"}},
    ],
)
def test_entries(entries: dict[str, Any], benchmark: Path, judge: Judge) -> None:
    (benchmark / "benchmark.json").write_text(json.dumps(ABOUT | entries))
    judge.refused("report", benchmark, code=2, says="benchmark.json")


@pytest.mark.parametrize(
    "entries",
    [
        {"method": None, "fold": None},
        {"fold": "x"},
        {"fold": 1e400},
        {"labels": "x"},
        {"test": 3},
        {"confusion": 3},
        {"confusion": [[1, 2], [3, 4]]},
        {"confusion": [["a"] * 3] * 3},
        {"confusion": [[10**30] * 3] * 3},
    ],
)
def test_cells(entries: dict[str, Any], benchmark: Path, judge: Judge) -> None:
    (benchmark / "cells/kmeans-1/labels-all/fold-0/cell.json").write_text(json.dumps(CELL | entries))
    judge.refused("report", benchmark, code=2, says="cell.json")


def _twice(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")


CHANGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00\x01" * 50),
    "no-columns": lambda path: path.write_text("a,b\n1,2\n"),
    "ragged": lambda path: path.write_text(path.read_text() + "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17\n"),
    "quote": lambda path: path.write_text(path.read_text() + '"half\n'),
    "nul": lambda path: path.write_text(path.read_text() + "\0\n"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str, change: str, benchmark: Path, judge: Judge) -> None:
    CHANGES[change](benchmark / f"{name}.csv")
    judge.refused("report", benchmark, code=2, says=f"{name}.csv")


@pytest.mark.parametrize("name", ["scores", "summary", "ranking"])
def test_rows_that_come_twice(name: str, benchmark: Path, judge: Judge) -> None:
    _twice(benchmark / f"{name}.csv")
    judge.refused("report", benchmark, code=2, says=f"{name}.csv: two rows for")


@pytest.mark.parametrize("value", ["x", "nan,nan", "\x1b[2J"])
def test_values(value: str, benchmark: Path, judge: Judge) -> None:
    path = benchmark / "scores.csv"
    path.write_text(path.read_text().replace("0.5", value))
    judge.refused("report", benchmark, code=2, says="scores.csv")


@pytest.mark.parametrize("text", TEXTS)
def test_going_on(text: str, good: Good, benchmark: Path, judge: Judge) -> None:
    (benchmark / "benchmark.json").write_bytes(TEXTS[text].encode("latin-1"))
    shutil.rmtree(benchmark / "cells")
    judge.refused("benchmark", good.data, "--methods", "kmeans", "--folds", "2", "--out", benchmark, code=2)
