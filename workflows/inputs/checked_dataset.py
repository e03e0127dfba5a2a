"""Check every file of a data set before training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlaseg.pipeline.datasets.inspection import Inspection

__all__ = ["refuse_problems"]


def refuse_problems(folder: Path) -> Inspection:
    """Read every file of a data set before training starts.

    Scans without labels, or without any labelled voxel, are no problem for training.

    Returns:
        What was found; no problem of it is an error.

    Raises:
        DatasetError: the first problem, and how many there are.
    """
    from concurrent.futures import ThreadPoolExecutor

    from atlaseg.pipeline.datasets.inspection import inspect_dataset
    from atlaseg.pipeline.errors import DatasetError

    with ThreadPoolExecutor() as executor:
        found = inspect_dataset(folder, tolerated=("missing-label", "empty-label"), executor=executor)
    if errors := found.errors:
        more = (
            f" (and {len(errors) - 1} more problems: see `atlaseg check {folder}`)" if len(errors) > 1 else ""
        )
        raise DatasetError(f"{errors[0].file}: {errors[0].message}{more}")
    for problem in found.warnings:
        if problem.kind == "left-out":
            print(f"{problem.file}: {problem.message}", file=sys.stderr)
    return found
