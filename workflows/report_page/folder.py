"""Read and check the output folder of ``atlaseg benchmark``."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from atlaseg.pipeline.errors import DatasetError, MissingFileError, UnreadableFileError
from atlaseg.pipeline.evaluation.surface import Surface
from atlaseg.pipeline.io.files import read_json, taking_apart
from atlaseg.pipeline.schema import shortened
from atlaseg.workflows.report_page.benchmark_tables import Benchmark, Cell, MethodEntry

__all__ = ["read_benchmark"]

#: Version of the folder's layout that this page is made from.
FORMAT = 1
_TABLES: dict[str, tuple[str, ...]] = {
    "scores": ("case", "structure", "method", "fold", "labels", "metric", "value", "failed"),
    "times": ("method", "fold", "labels", "case", "stage", "seconds", "cpu_seconds", "peak_mib"),
    "failures": ("method", "fold", "labels", "case", "error"),
    "summary": (
        *("method", "labels", "structure", "metric", "mean", "median", "sd", "low", "high"),
        *("worst", "worst_case", "n", "failed"),
    ),
    "significance": ("labels", "metric", "method_a", "method_b", "n", "difference", "p", "p_holm"),
    "ranking": ("labels", "method", "rank"),
}
#: What else the page shows of ``benchmark.json``, where it is there, and of what type it is.
_ABOUT: dict[str, tuple[type, ...]] = {
    "cpu": (str,),
    "cores": (int,),
    "seed": (int,),
    "folds": (int,),
    "first": (int,),
    "last": (int,),
    "tolerance_mm": (int, float),
    "versions": (dict,),
}
#: Columns that tell the rows of a table apart.
_KEYS: dict[str, tuple[str, ...]] = {
    "scores": ("case", "structure", "method", "fold", "labels", "metric"),
    "summary": ("method", "labels", "structure", "metric"),
    "significance": ("labels", "metric", "method_a", "method_b"),
    "ranking": ("labels", "method"),
}
_TEXT = (
    "case",
    "structure",
    "method",
    "metric",
    "stage",
    "error",
    "worst_case",
    "method_a",
    "method_b",
    "surface",
)
_WHOLE = ("labels", "fold", "n")


def read_benchmark(folder: Path) -> Benchmark:
    """Read the folder that ``atlaseg benchmark --out`` has written.

    Raises:
        MissingFileError: the folder or one of its tables is not there.
        DatasetError: it was written by another version, or holds no scores.
        UnreadableFileError: a file is not what it should be.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder; give the --out folder of atlaseg benchmark")
    file = folder / "benchmark.json"
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file; give the --out folder of atlaseg benchmark")
    about = read_json(file, dict)
    if about.get("format") != FORMAT:
        raise DatasetError(
            f"{file}: expected format {FORMAT}, found {str(about.get('format'))[:40]!r}; "
            "run the benchmark again with this version of atlaseg"
        )
    for key, kinds in _ABOUT.items():
        if not isinstance(about.setdefault(key, None), (*kinds, type(None))):
            raise UnreadableFileError(
                f"{file}: {key} is not as atlaseg benchmark writes it: {shortened(about[key])}"
            )
    tables = {name: _read_table(folder / f"{name}.csv", columns) for name, columns in _TABLES.items()}
    if tables["scores"].empty:
        raise DatasetError(f"{folder / 'scores.csv'}: holds no scores yet; continue atlaseg benchmark")
    with taking_apart(file, "methods, labels and structures"):
        methods = tuple(
            MethodEntry(str(m["name"]), str(m["method"]), dict(m.get("options") or {}))
            for m in about["methods"]
        )
        given = [None if n is None else int(n) for n in about.get("labels") or [None]]
        structures = {int(value): str(name) for value, name in about["structures"].items()}
    for what, names in (("structures", list(structures.values())), ("methods", [m.name for m in methods])):
        if twice := [name for name in names if names.count(name) > 1]:
            raise DatasetError(f"{file}: two {what} are called {twice[0]!r}; give each a different name")
    _check_methods(file, {m.name for m in methods}, tables["scores"])
    return Benchmark(
        path=folder,
        dataset=str(about.get("dataset", "data set")),
        about=about,
        methods=methods,
        labels=tuple(sorted(set(given), key=lambda n: (n is None, n or 0))),
        structures=dict(sorted(structures.items())),
        tables=tables,
        cells=_read_cells(folder / "cells", len({0, *structures})),
        surface=_surface(file, about, tables),
    )


def _surface(file: Path, about: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Surface:
    """Definition of surfaces in all tables; voxels for folders written before there was a choice."""
    said = about.get("surface", "voxels")
    found = {str(said)} | {
        str(name) for table in tables.values() if "surface" in table for name in table["surface"].unique()
    }
    known: tuple[Surface, ...] = get_args(Surface)
    if len(found) > 1 or said not in known:
        raise DatasetError(
            f"{file}: surfaces are made of {' and of '.join(sorted(found))} in the tables; expected one of "
            f"{' and '.join(known)} in all, so score all alike"
        )
    return next(surface for surface in known if surface == said)


def _check_methods(file: Path, known: set[str], scores: pd.DataFrame) -> None:
    if unknown := sorted(set(scores["method"]) - known):
        raise DatasetError(
            f"{file}: does not name method {unknown[0]!r}, which has scores; "
            "check whether the folder was assembled by hand"
        )


def _read_table(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table whose case names stay text: ``001`` is no number, and ``NA`` is not missing."""
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file; let atlaseg benchmark finish")
    try:
        text = file.read_text(encoding="utf-8")
        if "\0" in text:
            raise ValueError("it holds NUL characters")
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows that are longer than the heading
            table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, index_col=False)
        if missing := [name for name in columns if name not in table.columns]:
            raise UnreadableFileError(
                f"{file}: expected a column {missing[0]!r}, found {list(table.columns)}"
            )
        for name in table.columns:
            if name == "failed":
                counts = table[name].replace({"True": "1", "False": "0", "true": "1", "false": "0", "": "0"})
                table[name] = pd.to_numeric(counts).astype("int64")
            elif name in _WHOLE:
                table[name] = pd.to_numeric(table[name].replace({"": None})).astype("Int64")
            elif name not in _TEXT:
                table[name] = pd.to_numeric(table[name].replace({"": None})).astype("float64")
    except (ValueError, TypeError, ArithmeticError, pd.errors.ParserWarning) as error:
        said = " ".join(str(error).split())[:200]
        raise UnreadableFileError(f"{file}: not readable as a table ({said})") from error
    keys = [column for column in _KEYS.get(file.stem, ()) if column in columns]
    if keys and (twice := table[table.duplicated(keys)]).size:
        found = ", ".join(str(value) for value in twice.iloc[0][keys] if not pd.isna(value))
        raise UnreadableFileError(
            f"{file}: two rows for {found}; let atlaseg benchmark write the table again"
        )
    return table


def _read_cells(folder: Path, K: int) -> tuple[Cell, ...]:
    """Cells that are sealed: their ``cell.json`` is written last. Of two of the same, the newer one."""
    cells: dict[tuple[str, int | None, int], Cell] = {}
    for seal in sorted(folder.glob("*/labels-*/fold-*/cell.json"), key=lambda file: file.stat().st_mtime):
        about = read_json(seal, dict)
        try:
            labels = None if about["labels"] is None else int(about["labels"])
            counts = about.get("confusion")
            confusion = None if counts is None else np.asarray(counts, dtype=np.int64).reshape(K, K)
            test = tuple(str(case) for case in about["test"])
            cell = Cell(seal.parent, str(about["method"]), labels, int(about["fold"]), test, confusion)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise UnreadableFileError(
                f"{seal}: expected method, labels, fold, test and a {K} x {K} confusion ({error!r}); remove the file, "
                "then let atlaseg benchmark go on"
            ) from error
        cells[cell.method, cell.labels, cell.fold] = cell
    return tuple(cells.values())
