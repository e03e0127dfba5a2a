"""Scores of one case from its files: the predicted label map and the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import DatasetError, GeometryError, LabelError
from atlaseg.pipeline.evaluation.scores import CaseScores, compare_case, missing_prediction
from atlaseg.pipeline.evaluation.surface import Surface
from atlaseg.pipeline.io.volume import grid_difference, read_header, read_label_map

__all__ = ["compare_files"]


def compare_files(
    case: str,
    reference: Path | None,
    prediction: Path | None,
    labels: LabelTable,
    tolerance_mm: float = 1.0,
    surface: Surface = "voxels",
) -> CaseScores:
    """Scores of one case.

    Args:
        case: its name, for the rows.
        reference: label map to compare with, ``None`` for a case that has none.
        prediction: label map to be scored, ``None`` where there is none: the worst scores.
        labels: label values and their names.
        tolerance_mm: of the surface Dice.
        surface: what surfaces are made of.

    Raises:
        DatasetError: the case has no reference.
        UnreadableFileError, GeometryError: a file cannot be read, or the two are not on one grid.
        LabelError: a map holds a value that has no name.
    """
    if reference is None:
        raise DatasetError(f"case {case} has no label map, so nothing can be compared with it")
    header = read_header(reference)
    truth = _read(reference, labels)
    if prediction is None:
        return missing_prediction(truth, labels, header.spacing, case=case, surface=surface)
    if difference := grid_difference(header, read_header(prediction)):
        raise GeometryError(
            f"{prediction}: not on the grid of {reference} ({difference}); resample it to that"
        )
    found = _read(prediction, labels)
    return compare_case(found, truth, labels, header.spacing, tolerance_mm, case=case, surface=surface)


def _read(path: Path, labels: LabelTable) -> npt.NDArray[np.int64]:
    """Label map ``(X, Y, Z)`` whose values are all known."""
    label_map = read_label_map(path)
    if unknown := labels.unknown(label_map):
        raise LabelError(
            f"{path}: unknown label values {unknown}, known are {list(labels.values)}; "
            "name them all in the data set, or in the file that `atlaseg evaluate --labels` takes"
        )
    return label_map
