"""Truth and predictions of cases, and the confusion of a method over its cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import Case, LabelTable
from atlaseg.pipeline.errors import AtlasegError, GeometryError, MissingFileError
from atlaseg.pipeline.io.volume import Header, grid_difference, read_header, read_label_map
from atlaseg.workflows.report_page.benchmark_tables import Benchmark

__all__ = [
    "Truths",
    "find_truths",
    "label_table",
    "read_prediction",
    "read_truth",
    "total_confusion",
]

Truths = Mapping[str, Case]


def label_table(benchmark: Benchmark) -> LabelTable:
    """Label values and names of the structures, with the background."""
    return LabelTable.from_names(
        {"background": 0} | {name: value for value, name in benchmark.structures.items() if value != 0}
    )


def find_truths(benchmark: Benchmark, dataset: Path | None) -> Truths | None:
    """Cases of the data set by name, ``None`` where it has moved and no folder is given.

    Args:
        benchmark: that was run on it.
        dataset: its folder; by default it is looked for near the benchmark.

    Raises:
        MissingFileError, DatasetError: ``dataset`` was given and is not a data set.
    """
    from atlaseg.pipeline.datasets.reader import list_dataset

    folder = dataset
    if folder is None:
        folder = _near(benchmark.path)
        if folder is None:
            return None
    listing = list_dataset(folder, lambda _error, _file: None)
    return {case.name: case for case in listing.cases if case.label is not None}


def _near(folder: Path) -> Path | None:
    """Where the data set of a benchmark is; one of version 0.1 says so."""
    from atlaseg.pipeline.datasets.dataset_search import dataset_of_run

    note = folder / "dataset.path"
    if note.is_file():
        found = Path(note.read_text(encoding="utf-8").strip())
        return found if found.is_dir() else None
    try:
        return dataset_of_run(folder)
    except AtlasegError:
        return None


def total_confusion(benchmark: Benchmark, method: str, labels: int | None) -> npt.NDArray[np.int64] | None:
    """``(K, K)`` voxel counts of one method over all folds, rows the truth; ``None`` where every case failed."""
    found = [cell.confusion for cell in benchmark.cells_with(method, labels) if cell.confusion is not None]
    return np.sum(found, axis=0) if found else None


def read_truth(truths: Truths, case: str) -> tuple[npt.NDArray[np.int64], Header]:
    """True label map ``(*spatial)`` of a case, and its header.

    Raises:
        MissingFileError: the data set has no such case.
    """
    known = truths.get(case)
    if known is None or known.label is None:
        raise MissingFileError(
            f"case {case} is not in the data set; give the one of the benchmark by --dataset"
        )
    return read_label_map(known.label), read_header(known.label)


def read_prediction(path: Path, header: Header) -> npt.NDArray[np.int64]:
    """Predicted label map ``(*spatial)`` on the grid of a header.

    Raises:
        GeometryError: it lies on another grid.
    """
    if difference := grid_difference(header, read_header(path)):
        raise GeometryError(f"{path}: not on the grid of {header.path.name} ({difference})")
    return read_label_map(path)
