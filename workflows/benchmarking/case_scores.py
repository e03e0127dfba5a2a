"""Scores of what a method found for a test case, or of its failure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.pipeline.errors import DatasetError

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Case, LabelTable
    from atlaseg.pipeline.evaluation.scores import CaseScores
    from atlaseg.pipeline.evaluation.surface import Surface

__all__ = ["score_files"]


def score_files(
    case: Case, found: Path | None, names: LabelTable, tolerance_mm: float, surface: Surface = "voxels"
) -> CaseScores:
    """Scores of one case.

    Args:
        case: with its label.
        found: label map of a method, ``None`` where it failed: the worst scores.
        names: label values and their names.
        tolerance_mm: of the surface Dice.
        surface: what surfaces are made of.

    Raises:
        AtlasegError: a file is not readable, or the two are not on one grid.
    """
    import numpy as np

    from atlaseg.pipeline.errors import GeometryError
    from atlaseg.pipeline.evaluation.scores import CaseScores, compare_case, missing_prediction
    from atlaseg.pipeline.io.volume import grid_difference, read_header, read_label_map

    if case.label is None:
        raise DatasetError(f"case {case.name} has no label map, so nothing can be compared with it")
    header, truth = read_header(case.label), read_label_map(case.label)
    if found is None:
        scores = missing_prediction(truth, names, header.spacing, case=case.name, surface=surface)
        return CaseScores(tuple(scores), np.zeros((len(names), len(names)), np.int64))
    if difference := grid_difference(header, read_header(found)):
        raise GeometryError(
            f"{found}: not on the grid of {case.label} ({difference}); this is a fault of atlaseg"
        )
    labels = read_label_map(found)
    return compare_case(labels, truth, names, header.spacing, tolerance_mm, case=case.name, surface=surface)
