"""Atlases: scans that somebody has labelled, and collections of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.points.landmarks import LANDMARK_SUFFIXES, read_landmarks
from atlaseg.atlases.registration.transforms.frames import read_itk, to_itk
from atlaseg.pipeline.case import Case, Dataset, LabelTable
from atlaseg.pipeline.datasets import raise_at_once, read_dataset
from atlaseg.pipeline.datasets.inspection import CaseReport, Problem, inspect_case
from atlaseg.pipeline.datasets.listing import volumes_in
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    GeometryError,
    LabelError,
    MissingFileError,
    UnreadableFileError,
)
from atlaseg.pipeline.io.mask import read_mask
from atlaseg.pipeline.io.scan_names import volume_name
from atlaseg.pipeline.io.volume import read_channels, read_header, read_label_map

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["Atlas", "AtlasSet", "index_type", "landmarks_name"]

#: Registration builds pyramids, which need something to halve.
LEAST_VOXELS = 4


def index_type(table: LabelTable) -> type[np.uint8 | np.uint16]:
    """Smallest unsigned type for the channel indices of a table."""
    return np.uint8 if len(table) <= 1 + np.iinfo(np.uint8).max else np.uint16


def landmarks_name(path: Path) -> str:
    """Name of the case that a file of landmarks belongs to.

    >>> landmarks_name(Path("landmarks/patient.01.mrk.json"))
    'patient.01'
    """
    for suffix in LANDMARK_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


@dataclass(frozen=True)
class Atlas:
    """One labelled scan, known by its files alone: cheap to hand to another process.

    Args:
        name: the only identifier that outputs may carry.
        images: one file per channel, or one file that may be 4-D with channels last.
        label: label map on the same grid, in the set's label values.
        mask: of the brain or body, on the same grid; every voxel that is not 0 is inside.
        landmarks: points in the scan, a file of :func:`atlaseg.atlases.registration.points.landmarks.read_landmarks`.

    Raises:
        DatasetError: the name is not usable as a file name, or there is no image.
    """

    name: str
    images: tuple[Path, ...]
    label: Path
    mask: Path | None = None
    landmarks: Path | None = None

    def __post_init__(self) -> None:
        self.case  # noqa: B018 (a case refuses unusable names)

    @property
    def case(self) -> Case:
        """The atlas as a labelled case of a data set."""
        return Case(self.name, self.images, self.label)

    def image(self, channel: int = 0) -> sitk.Image:
        """One channel as a float32 ITK image.

        Raises:
            GeometryError: there is no such channel.
            MissingFileError, UnreadableFileError: a file is missing or broken.
        """
        left = channel
        for path in self.images:
            number = read_header(path).channels
            if 0 <= left < number:
                return read_itk(path, left)
            left -= number
        raise GeometryError(
            f"{self.images[0]}: atlas {self.name} has {channel - left} channel(s), {channel} was asked for"
        )

    def channels(self) -> npt.NDArray[np.float32]:
        """All channels, ``(C, *spatial)`` float32.

        Raises:
            AtlasegError: as :func:`atlaseg.pipeline.io.volume.read_channels`.
        """
        return read_channels(self.images)[0]

    def labels(self, table: LabelTable) -> sitk.Image:
        """Label map as channel indices of the table, uint8 (up to 256 labels) or uint16.

        Raises:
            LabelError: voxels are not whole numbers, or values that the table does not have.
            MissingFileError, UnreadableFileError, GeometryError: as :func:`atlaseg.pipeline.io.volume.read_label_map`.
        """
        values = read_label_map(self.label)
        try:
            indices = table.to_indices(values).astype(index_type(table))
        except LabelError as error:
            raise LabelError(f"{self.label}: {error}") from error
        return to_itk(indices, read_header(self.label).affine)

    def mask_image(self) -> sitk.Image | None:
        """Mask as uint8, 1 inside, or ``None`` where the atlas has none.

        Raises:
            AtlasegError: as :func:`atlaseg.pipeline.io.mask.read_mask`.
        """
        if self.mask is None:
            return None
        return to_itk(read_mask(self.mask), read_header(self.mask).affine)


@dataclass(frozen=True)
class AtlasSet:
    """Atlases that share channels and label values.

    Args:
        name: what the collection is called.
        atlases: at least one; kept sorted by name, names are unique.
        labels: the label values and their names.
        channels: name of each channel.
        channels_named_by: file or option that names them; ``None`` where nobody did.

    Raises:
        DatasetError: there is no atlas, or two have the same name.
    """

    name: str
    atlases: tuple[Atlas, ...]
    labels: LabelTable
    channels: tuple[str, ...] = ("MRI",)
    channels_named_by: str | None = field(default="the data set", compare=False)

    def __post_init__(self) -> None:
        if not self.atlases:
            raise DatasetError(f"{self.name}: no atlas in the set; give at least one labelled scan")
        Dataset(self.name, tuple(atlas.case for atlas in self.atlases), self.labels)  # refuses repeated names
        object.__setattr__(self, "atlases", tuple(sorted(self.atlases, key=lambda atlas: atlas.name)))

    def __len__(self) -> int:
        return len(self.atlases)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the atlases, sorted."""
        return tuple(atlas.name for atlas in self.atlases)

    @property
    def masks(self) -> dict[str, Path] | None:
        """Mask files by name of the atlas, ``None`` where no atlas has one."""
        return {atlas.name: atlas.mask for atlas in self.atlases if atlas.mask is not None} or None

    @property
    def dataset(self) -> Dataset:
        """The same scans as a data set, without masks and landmarks."""
        cases = tuple(atlas.case for atlas in self.atlases)
        return Dataset(self.name, cases, self.labels, self.channels, self.channels_named_by)

    def with_channels_of(self, dataset: Dataset) -> Self:
        """The same set with the names of channels that a data set has."""
        return replace(self, channels=dataset.channels, channels_named_by=dataset.channels_named_by)

    @classmethod
    def from_dataset(cls, dataset: Dataset, masks: Path | None = None, landmarks: Path | None = None) -> Self:
        """Atlases from the labelled cases of a data set.

        Args:
            dataset: unlabelled cases are left out.
            masks: folder with masks, named as the cases; some cases may have none.
            landmarks: folder with files of landmarks, named as the cases; some may have none.

        Raises:
            MissingFileError: a folder is not there, or holds a file that belongs to no case.
            DatasetError: no case is labelled, or two files belong to one case.
        """
        names = {case.name for case in dataset.cases}
        mask_of = _by_case(masks, names, "mask") if masks else {}
        points_of = _by_case(landmarks, names, "landmarks") if landmarks else {}
        atlases = tuple(
            Atlas(c.name, c.images, c.label, mask_of.get(c.name), points_of.get(c.name))
            for c in dataset.cases
            if c.label is not None
        )
        if not atlases:
            raise DatasetError(f"{dataset.name}: no case has a label map; atlases are labelled scans")
        return cls(dataset.name, atlases, dataset.labels, dataset.channels, dataset.channels_named_by)

    @classmethod
    def read(cls, folder: Path, *, executor: Executor | None = None) -> Self:
        """Atlases of a folder in any layout of :func:`atlaseg.pipeline.datasets.read_dataset`.

        Folders ``masks/`` and ``landmarks/`` beside the images are used where they exist.

        Args:
            folder: of the data set.
            executor: reads label maps in parallel, where no file names the label values.

        Raises:
            MissingFileError, DatasetError, LabelError, UnreadableFileError, GeometryError: as
                :func:`atlaseg.pipeline.datasets.read_dataset` and :meth:`from_dataset`.
        """
        dataset = read_dataset(folder, executor=executor)
        masks, landmarks = folder / "masks", folder / "landmarks"
        return cls.from_dataset(
            dataset, masks if masks.is_dir() else None, landmarks if landmarks.is_dir() else None
        )

    @classmethod
    def load(cls, folder: Path, *, verify: bool = True) -> Self:
        """Atlases of a folder that :meth:`save` wrote; as :func:`atlaseg.atlases.atlas_folder.load_atlases`."""
        from atlaseg.atlases.atlas_folder import load_atlases

        found = load_atlases(folder, verify=verify)
        return cls(found.name, found.atlases, found.labels, found.channels)

    def save(self, folder: Path, *, copy: bool = True, executor: Executor | None = None) -> None:
        """Write a self-contained folder; as :func:`atlaseg.atlases.atlas_folder.save_atlases`."""
        from atlaseg.atlases.atlas_folder import save_atlases

        save_atlases(self, folder, copy=copy, executor=executor)

    def subset(self, names: Sequence[str]) -> Self:
        """The same set with the named atlases only.

        Raises:
            DatasetError: a name is not in the set, or none is given.
        """
        known = {atlas.name: atlas for atlas in self.atlases}
        if missing := [name for name in names if name not in known]:
            raise DatasetError(f"{self.name} has no atlas {', '.join(missing)}")
        return replace(self, atlases=tuple(known[name] for name in names))

    def without(self, name: str) -> Self:
        """The same set without one atlas: what a scan is segmented with that is itself in the set.

        Raises:
            DatasetError: the set has no such atlas, or no other.
        """
        if name not in self.names:
            raise DatasetError(f"{self.name} has no atlas {name}")
        return replace(self, atlases=tuple(atlas for atlas in self.atlases if atlas.name != name))

    def problems(self, *, executor: Executor | None = None) -> tuple[AtlasegError, ...]:
        """Everything that is wrong with the files, one line each, found by reading all of them.

        Args:
            executor: reads the atlases in parallel.
        """
        inspect = partial(_problems, labels=self.labels, channels=len(self.channels))
        found = executor.map(inspect, self.atlases) if executor else map(inspect, self.atlases)
        return tuple(error for errors in found for error in errors)

    def check(self, *, executor: Executor | None = None) -> None:
        """Read every file before anything depends on it.

        Raises:
            AtlasegError: the first problem in the class that suits it (``GeometryError``, ``LabelError``,
                ``DatasetError``, ``MissingFileError``, ``UnreadableFileError``), and how many more there are.
        """
        if problems := self.problems(executor=executor):
            first, more = problems[0], len(problems) - 1
            count = f" (and {more} more problem{'s' * (more > 1)} in this atlas set)" if more else ""
            raise type(first)(f"{first}{count}")


def _by_case(folder: Path, names: set[str], what: str) -> dict[str, Path]:
    """Files of a folder by the case whose name they carry."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder; give the folder of the {what} files")
    if what == "mask":
        named = [(volume_name(path), path) for path in volumes_in(folder, raise_at_once)]
    else:
        files = [p for p in sorted(folder.iterdir()) if p.name.lower().endswith(LANDMARK_SUFFIXES)]
        named = [(landmarks_name(path), path) for path in files if not path.name.startswith(".")]
    found: dict[str, Path] = {}
    for name, path in named:
        if name not in names:
            raise MissingFileError(f"{path}: {what} without a scan of that name; add the scan or rename it")
        if name in found:
            raise DatasetError(f"{path}: {what} of {name} is also in {found[name]}; remove one of the two")
        found[name] = path
    return found


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


def _problems(atlas: Atlas, labels: LabelTable, channels: int) -> list[AtlasegError]:
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
    shape: Any = "x".join(str(n) for n in report.shape)
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
