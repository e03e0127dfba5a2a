"""Check the files of an atlas by reading all of them."""

from __future__ import annotations

from pathlib import Path

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.registration.points.landmarks import read_landmarks
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.datasets.inspection import CaseReport, Problem, inspect_case
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    GeometryError,
    LabelError,
    MissingFileError,
    UnreadableFileError,
)
from atlaseg.pipeline.io.mask import read_mask
from atlaseg.pipeline.io.volume import read_header

__all__ = ["problems_of"]

#: Registration builds pyramids, which need something to halve.
LEAST_VOXELS = 4
#: Error class of each kind of problem; the others are errors of the data set.
_CLASSES: dict[str, type[AtlasegError]] = {
    "missing-file": MissingFileError,
    "unreadable": UnreadableFileError,
    "geometry": GeometryError,
    "grid": GeometryError,
    "dimensions": GeometryError,
    "sform-qform": GeometryError,
    "shear": GeometryError,
    "pixdim": GeometryError,
    "slope": UnreadableFileError,
    "label-values": LabelError,
    "unknown-label": LabelError,
    "empty-label": LabelError,
}


def problems_of(atlas: Atlas, labels: LabelTable, channels: int) -> list[AtlasegError]:
    """Everything that is wrong with the files of an atlas, one error for each problem.

    Args:
        atlas: all of its files are read.
        labels: values that its label map may have.
        channels: that its images must have.
    """
    report = inspect_case(atlas.case, labels, channels)
    found = [_as_error(problem) for problem in report.problems if problem.severity == "error"]
    found += _too_thin(atlas, report)
    if atlas.mask is not None:
        found += _mask_problems(atlas.mask, atlas.images[0])
    if atlas.landmarks is not None:
        try:
            read_landmarks(atlas.landmarks)
        except AtlasegError as error:
            found.append(error)
    return found


def _as_error(problem: Problem) -> AtlasegError:
    message = problem.message
    if problem.kind == "empty-label":  # an unlabelled scan may be meant so in training, never in an atlas
        message = "empty: no voxel is labelled; label it, or take the scan out of the atlases"
    return _CLASSES.get(problem.kind, DatasetError)(f"{problem.file}: {message}")


def _too_thin(atlas: Atlas, report: CaseReport) -> list[AtlasegError]:
    if not report.shape or min(report.shape) >= LEAST_VOXELS:
        return []
    shape = "x".join(str(n) for n in report.shape)
    kind = "a 2-D image" if min(report.shape) == 1 else "a slab"
    return [
        GeometryError(
            f"{atlas.images[0]}: expected a 3-D volume, at least {LEAST_VOXELS} voxels along each axis, "
            f"found {kind} ({shape}); leave it out"
        )
    ]


def _mask_problems(mask: Path, image: Path) -> list[AtlasegError]:
    try:
        read_header(image)
    except AtlasegError:
        return []  # a broken image has been reported already
    try:
        read_mask(mask, image)
    except AtlasegError as error:
        return [error]
    return []
