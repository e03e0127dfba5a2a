"""Check a data set by reading all of its files: the problems that ``atlaseg check`` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from atlaseg.pipeline.case import Case, LabelTable, value_counts
from atlaseg.pipeline.datasets.listing import Listing
from atlaseg.pipeline.datasets.modality import Assumption, Hounsfield, assume_channels, hounsfield_units
from atlaseg.pipeline.datasets.reader import check_values, list_dataset
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    GeometryError,
    LabelError,
    MissingFileError,
    UnreadableFileError,
)
from atlaseg.pipeline.io.volume import (
    Header,
    grid_difference,
    header_problems,
    not_finite,
    read_label_map,
    read_voxels,
)
from atlaseg.pipeline.progress import Progress

__all__ = ["CaseReport", "Inspection", "Kind", "Problem", "inspect_dataset", "looks_of"]

Kind = Literal[
    "missing-file",  # a file that is named is not there
    "missing-label",  # an image without a label map
    "unreadable",  # truncated, or not NIfTI
    "layout",  # names, paths and lists of the data set
    "geometry",  # an affine that cannot be used
    "grid",  # image, channels and label on different grids
    "dimensions",  # 4-D where 3-D is meant, or another number of channels
    "sform-qform",  # the two affines of one header disagree
    "shear",  # axes that are not at right angles
    "pixdim",  # another voxel size than the affine's
    "no-orientation",  # a header that does not say where voxels lie
    "unit",  # an invalid unit of length
    "slope",  # a scaling of the voxels that is no number
    "not-finite",  # NaN or infinite voxels
    "constant",  # a channel without contrast
    "modality",  # intensities that do not suit the name of their channel
    "label-values",  # not whole, not finite, negative
    "unknown-label",  # values that the data set does not have
    "empty-label",  # no structure in a label map
    "unused-label",  # a structure in no label map
    "left-out",  # scans in the folder that are no part of the data set
]


@dataclass(frozen=True)
class Problem:
    """One problem of one file.

    Args:
        kind: what it is, for machines.
        file: where it is.
        message: one line for people, without the file's name.
        severity: ``error`` keeps the data set from being used as it is; ``warning`` does not.
        case: name of the case, where it is known.
    """

    kind: Kind
    file: Path
    message: str
    severity: Literal["error", "warning"] = "error"
    case: str | None = None


@dataclass(frozen=True)
class CaseReport:
    """Content and problems of the files of one case.

    Args:
        name: of the case.
        labelled: whether it has a label map.
        shape: spatial shape in voxels; empty where no header could be read, as are spacing and orientation.
        spacing: voxel size in mm.
        orientation: closest anatomical axes, such as ``RAS``.
        obliquity: largest angle in degrees between a voxel axis and its closest anatomical axis.
        channels: number of channels in all files together.
        dtype: number type of the image on disk.
        looks: for each channel, whether its intensities are like Hounsfield units.
        volumes: label value -> volume in ml, background left out.
        problems: of its files.
    """

    name: str
    labelled: bool
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    orientation: str = ""
    obliquity: float = 0.0
    channels: int = 0
    dtype: str = ""
    looks: tuple[Hounsfield, ...] = ()
    volumes: dict[int, float] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """Content and problems of a data set.

    Args:
        folder: of the data set.
        layout: how its files lie on disk.
        name: of the data set.
        channels: name of each input channel, as named by the data set or as assumed.
        channels_named_by: the file that names them; ``None`` where none does.
        modality: what the channels are taken for, and why.
        labels: label values and names, as named by the data set or as found.
        cases: one report each, sorted by name.
        problems: of the whole data set, errors first.
    """

    folder: Path
    layout: str
    name: str
    channels: tuple[str, ...]
    channels_named_by: str | None
    modality: Assumption
    labels: LabelTable
    cases: tuple[CaseReport, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that keep the data set from being used as it is."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems that do not stop training."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")


def inspect_dataset(
    folder: Path,
    *,
    tolerated: Iterable[Kind] = (),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Read every file of a data set and list what is wrong.

    Args:
        folder: in any layout that :func:`atlaseg.pipeline.datasets.read_dataset` knows.
        tolerated: kinds of problem that are meant to be so, and count as warnings only.
        executor: reads the cases in parallel.
        progress: told the number of cases done and in all, after each.

    Raises:
        MissingFileError: there is no such folder.
        DatasetError: the folder holds no data set, so that there is nothing to inspect.
    """
    problems: list[Problem] = []

    def collect(error: AtlasegError, file: Path) -> None:
        problems.append(_as_problem(error, file))

    listing = list_dataset(folder, collect)
    inspect = partial(inspect_case, labels=listing.labels, channels=len(listing.channels))
    results = executor.map(inspect, listing.cases) if executor else map(inspect, listing.cases)
    reports = []
    for report in results:
        reports.append(report)
        if progress is not None:
            progress(len(reports), len(listing.cases), "reading cases")
    problems += [problem for report in reports for problem in report.problems]
    problems += _missing_labels(listing)
    problems += [Problem("left-out", place, text, "warning") for place, text in listing.left_out.items()]
    labels = listing.labels or LabelTable.from_values(v for report in reports for v in report.volumes)
    problems += _of_the_whole(listing, reports, labels)
    modality = assume_channels(listing.channels, listing.channels_named_by, looks_of(reports))
    named_in = folder / listing.channels_named_by if listing.channels_named_by else folder
    problems += [Problem("modality", named_in, doubt, "warning") for doubt in modality.doubts]
    return Inspection(
        folder=folder,
        layout=listing.layout,
        name=listing.name,
        channels=modality.channels,
        channels_named_by=listing.channels_named_by,
        modality=modality,
        labels=labels,
        cases=tuple(reports),
        problems=_ordered(problems, frozenset(tolerated)),
    )


def looks_of(reports: Iterable[CaseReport]) -> list[tuple[Hounsfield, ...]]:
    """Intensities of the readable labelled scans; of all readable scans where none is labelled."""
    readable = [report for report in reports if report.looks]
    return [report.looks for report in readable if report.labelled] or [report.looks for report in readable]


def _missing_labels(listing: Listing) -> list[Problem]:
    return [
        Problem(
            "missing-label",
            path,
            f"no label map for image {name}; add it, or check with --allow-unlabelled if it has none",
            case=name,
        )
        for name, path in listing.absent_labels.items()
    ]


def _of_the_whole(listing: Listing, reports: list[CaseReport], labels: LabelTable) -> list[Problem]:
    """Problems that no single case has."""
    found: Counter[int] = Counter(value for report in reports for value in report.volumes)
    labelled = [report for report in reports if report.labelled]
    if not labelled:
        return [Problem("layout", listing.folder, "no case with a label map; add at least one")]
    return [
        Problem("unused-label", listing.folder, f"{name} ({value}) is in no label map", "warning")
        for value, name in labels.structures.items()
        if not found[value]
    ]


def _ordered(problems: list[Problem], tolerated: frozenset[Kind]) -> tuple[Problem, ...]:
    """Each problem once, errors first, tolerated kinds as warnings."""
    # The same broken header can be met twice: when channels are counted and when the case is read.
    once = {(problem.file, problem.kind, problem.message): problem for problem in problems}.values()
    judged = [replace(p, severity="warning") if p.kind in tolerated else p for p in once]
    return tuple(sorted(judged, key=lambda p: (p.severity, str(p.file))))


def _as_problem(error: AtlasegError, file: Path, case: str | None = None) -> Problem:
    kinds: dict[type[AtlasegError], Kind] = {
        MissingFileError: "missing-file",
        UnreadableFileError: "unreadable",
        DatasetError: "layout",
        GeometryError: "geometry",
        LabelError: "label-values",
    }
    return Problem(kinds[type(error)], file, str(error).removeprefix(f"{file}: "), case=case)


def inspect_case(case: Case, labels: LabelTable | None, channels: int) -> CaseReport:
    """Read the files of one case; problems go into the report, nothing is raised.

    Args:
        case: of the data set.
        labels: known label values, ``None`` where the label maps define them.
        channels: number of channels that every case has.
    """
    problems: list[Problem] = []
    looks: list[Hounsfield] = []
    headers = [header for path in case.images if (header := _image(case, path, problems, looks))]
    report = CaseReport(case.name, case.label is not None, looks=tuple(looks))
    if headers:
        first = headers[0]
        report = replace(
            report,
            shape=first.spatial_shape,
            spacing=first.spacing,
            orientation=first.orientation,
            obliquity=first.obliquity,
            channels=sum(header.channels for header in headers),
            dtype=str(first.dtype),
        )
        for other in headers[1:]:
            if difference := grid_difference(first, other):
                message = f"not on the grid of channel {first.path.name}: {difference}; resample it"
                problems.append(Problem("grid", other.path, message, case=case.name))
        if len(headers) == len(case.images) and report.channels != channels:
            problems.append(_wrong_channels(case, first, report.channels, channels))
    if case.label is not None:
        volumes = _label(case, case.label, headers[0] if headers else None, labels, problems)
        report = replace(report, volumes=volumes)
    return replace(report, problems=tuple(problems))


def _wrong_channels(case: Case, first: Header, found: int, expected: int) -> Problem:
    shape = " x ".join(str(n) for n in first.shape)
    if expected == 1 and len(case.images) == 1:
        message = f"expected a 3-D image, found {len(first.shape)}-D ({shape}); keep one volume of it"
    else:
        message = f"expected {expected} channels as in the data set, found {found} ({shape})"
    return Problem("dimensions", first.path, message, case=case.name)


def _image(case: Case, path: Path, problems: list[Problem], looks: list[Hounsfield]) -> Header | None:
    """Header of one image file if it can be read; what is wrong, and what channels look like, join the lists."""
    header = None
    try:
        header, usable = _header(case, path, problems)
        if not usable:
            return header
        voxels = read_voxels(path, header)
    except AtlasegError as error:
        problems.append(_as_problem(error, path, case.name))
        return header
    if message := not_finite(voxels):
        problems.append(Problem("not-finite", path, message, case=case.name))
    elif (lowest := voxels.min()) == voxels.max():
        message = f"all voxels have the value {float(lowest):g}; the scan is empty"
        problems.append(Problem("constant", path, message, case=case.name))
    channels = voxels.reshape(*voxels.shape[:3], -1) if voxels.ndim > 3 else voxels[..., None]
    looks += [hounsfield_units(channels[..., i]) for i in range(channels.shape[-1])]
    return header


def _header(case: Case, path: Path, problems: list[Problem]) -> tuple[Header, bool]:
    """Header of a file, and whether its voxels can be used; what is wrong with it joins the list."""
    header, found = header_problems(path)
    for problem in found:
        severity: Literal["error", "warning"] = "error" if problem.serious else "warning"
        problems.append(Problem(problem.kind, path, problem.message, severity, case.name))
    return header, not any(problem.serious for problem in found)


def _label(
    case: Case, path: Path, image: Header | None, labels: LabelTable | None, problems: list[Problem]
) -> dict[int, float]:
    """Volumes in ml by label value; problems of the label map are added to the list."""
    try:
        header, usable = _header(case, path, problems)
        if header.channels != 1:
            shape = " x ".join(str(n) for n in header.shape)
            message = f"expected a 3-D label map, found {len(header.shape)}-D ({shape})"
            problems.append(Problem("dimensions", path, message, case=case.name))
            return {}
        if image is not None and (difference := grid_difference(image, header)):
            message = f"not on the grid of its image: {difference}; resample it onto {image.path.name}"
            problems.append(Problem("grid", path, message, case=case.name))
        if not usable:
            return {}
        counts = value_counts(read_label_map(path, header))
        check_values(counts if labels is None else [v for v in counts if v < 0], path)
    except AtlasegError as error:
        problems.append(_as_problem(error, path, case.name))
        return {}
    if labels is not None and (unknown := sorted(counts.keys() - set(labels.values))):
        number = sum(counts[value] for value in unknown)
        known = _shortened(labels.values)
        message = f"unknown label values {_shortened(unknown)} in {number} voxels; known are {known}"
        problems.append(Problem("unknown-label", path, message, case=case.name))
    ml = abs(float(np.linalg.det(header.affine[:3, :3]))) / 1000
    volumes = {v: n * ml for v, n in counts.items() if v and (labels is None or v in labels.values)}
    if not any(counts.keys()):
        message = "empty: no voxel is labelled; label it, or check with --allow-empty if it is meant so"
        problems.append(Problem("empty-label", path, message, case=case.name))
    return volumes


def _shortened(values: Iterable[int]) -> str:
    listed = [str(value) for value in values]
    return ", ".join(listed if len(listed) <= 8 else [*listed[:4], "...", listed[-1]])
