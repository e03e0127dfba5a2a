"""A finished benchmark in memory: its methods, tables and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES
from atlaseg.pipeline.evaluation.surface import Surface

__all__ = ["Benchmark", "Cell", "MethodEntry", "with_labels"]


@dataclass(frozen=True)
class MethodEntry:
    """A method as it was asked for.

    Args:
        name: as given, such as ``METHOD:depth=context``; what the tables know it by.
        kind: the method's name.
        options: its options.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One method, number of labels and fold: the folder with what it predicted.

    Args:
        path: the folder.
        method: name of the method.
        labels: number of labelled training cases, ``None`` for all.
        fold: its number.
        test: names of the cases that it was tested on.
        confusion: ``(K, K)`` voxel counts over its cases, rows the truth, background first; ``None`` where every case
            failed.
    """

    path: Path
    method: str
    labels: int | None
    fold: int
    test: tuple[str, ...]
    confusion: npt.NDArray[np.int64] | None

    def label_map(self, case: str) -> Path:
        """Where the predicted label map of a case is, if there is one."""
        return self.path / "labels" / f"{case}.nii.gz"

    def probabilities(self, case: str) -> Path:
        """Where the probabilities ``(*spatial, K)`` of a case are, if they were kept."""
        return self.path / "probabilities" / f"{case}.nii.gz"


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A benchmark's folder.

    Args:
        path: the folder.
        dataset: display name of the data set.
        about: everything else in ``benchmark.json``.
        methods: in the order that they were asked for.
        labels: numbers of labelled training cases in rising order, ``None`` (all of them) last.
        structures: ``{label value: name}``.
        tables: scores, times, failures, summary, significance, ranking.
        cells: finished ones.
        surface: what surfaces are made of in all scores.
    """

    path: Path
    dataset: str
    about: Mapping[str, Any]
    methods: tuple[MethodEntry, ...]
    labels: tuple[int | None, ...]
    structures: dict[int, str]
    tables: Mapping[str, pd.DataFrame]
    cells: tuple[Cell, ...]
    surface: Surface = "voxels"

    @property
    def structure_names(self) -> list[str]:
        """Structures that were scored, in the order of their label values."""
        scored = set(self.tables["scores"]["structure"])
        return [name for name in self.structures.values() if name in scored]

    @property
    def cases(self) -> list[str]:
        """Cases that were scored, sorted."""
        return sorted(set(self.tables["scores"]["case"]))

    def scores(self, metric: str, labels: int | None, structure: str | None = None) -> pd.DataFrame:
        """Rows of the long table of one metric and number of labels, with a value."""
        table = with_labels(self.tables["scores"], labels)
        wanted = (table["metric"] == metric) & table["value"].notna()
        if structure is not None:
            wanted &= table["structure"] == structure
        return table[wanted]

    def summary(self, metric: str, labels: int | None, structure: str = ALL_STRUCTURES) -> pd.DataFrame:
        """Rows of the summary of one metric, number of labels and structure, by method."""
        table = with_labels(self.tables["summary"], labels)
        return table[(table["metric"] == metric) & (table["structure"] == structure)].set_index("method")

    def cells_with(self, method: str, labels: int | None) -> list[Cell]:
        """Finished cells of one method and number of labels."""
        return [cell for cell in self.cells if cell.method == method and cell.labels == labels]


def with_labels(table: pd.DataFrame, labels: int | None) -> pd.DataFrame:
    """Rows of one number of labels; ``None`` takes those of all training cases."""
    column = table["labels"]
    return table[column.isna() if labels is None else (column == labels).fillna(False)]
