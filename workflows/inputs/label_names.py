"""Names of structures from the files that name them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.pipeline.errors import DatasetError, MissingFileError

if TYPE_CHECKING:
    from atlaseg.pipeline.case import LabelTable

__all__ = ["NAME_FILES", "find_label_names", "read_label_names"]

#: Files that name structures.
NAME_FILES = ("dataset.json", "labels.json", "plan.yaml")


def find_label_names(references: Path) -> Path | None:
    """File with structure names in the folder of the references or the one above it."""
    folder = (references if references.is_dir() else references.parent).resolve()
    candidates = [place / name for place in (folder, folder.parent) for name in NAME_FILES]
    return next((path for path in candidates if path.is_file()), None)


def read_label_names(path: Path) -> LabelTable:
    """Label values and names from a plan (``.yaml``), or from a data set's folder or the JSON file in it.

    Raises:
        MissingFileError: it is not there.
        DatasetError, PlanError: it does not name label values.
    """
    from atlaseg.pipeline.datasets.reader import list_dataset
    from atlaseg.pipeline.planning.plan_file import load_plan

    if path.suffix.lower() in {".yaml", ".yml"}:
        return load_plan(path).labels
    if not path.exists():
        raise MissingFileError(f"{path}: no such file; give a plan.yaml or a data set's dataset.json")
    # Names are wanted, not images: scans that are absent here are no obstacle.
    labels = list_dataset(path if path.is_dir() else path.parent, lambda _error, _file: None).labels
    if labels is None:
        raise DatasetError(f"{path}: does not name its label values; give a plan.yaml, or add labels.json")
    return labels
