"""A collection of atlases that share channels and label values."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.atlas_folder import SavedAtlases, load_atlases, of_manifest, save_atlases
from atlaseg.atlases.atlas_problems import problems_of
from atlaseg.atlases.registration.points.landmarks import LANDMARK_SUFFIXES, landmarks_name
from atlaseg.pipeline.case import Dataset, LabelTable
from atlaseg.pipeline.datasets import raise_at_once, read_dataset
from atlaseg.pipeline.datasets.listing import volumes_in
from atlaseg.pipeline.errors import AtlasegError, DatasetError, MissingFileError
from atlaseg.pipeline.io.scan_names import volume_name

__all__ = ["AtlasSet"]


@dataclass(frozen=True)
class AtlasSet:
    """Atlases that share channels and label values.

    Args:
        name: what the collection is called.
        atlases: at least one; kept sorted by name, names are unique.
        labels: the label values and their names.
        channels: name of each channel.
        channels_named_by: file or option that names them; ``None`` if they are unnamed.

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
        """The same set with the channel names of a data set."""
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
        """Atlases of a folder that :meth:`save` wrote; nothing in the folder is run.

        Args:
            folder: that holds the manifest.
            verify: compare every file with its SHA-256.

        Raises:
            MissingFileError, UnreadableFileError, DatasetError: as
                :func:`atlaseg.atlases.atlas_folder.load_atlases`, or what the manifest lists is no set of atlases.
        """
        found = load_atlases(folder, verify=verify)
        try:
            return cls(found.name, found.atlases, found.labels, found.channels)
        except DatasetError as error:
            raise of_manifest(error, folder) from error

    def save(self, folder: Path, *, copy: bool = True, executor: Executor | None = None) -> None:
        """Write a self-contained folder; as :func:`atlaseg.atlases.atlas_folder.save_atlases`."""
        saved = SavedAtlases(self.name, self.atlases, self.labels, self.channels, self.channels_named_by)
        save_atlases(saved, folder, copy=copy, executor=executor)

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
        """The same set without one atlas, to segment a scan that is itself in the set.

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
        inspect = partial(problems_of, labels=self.labels, channels=len(self.channels))
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
