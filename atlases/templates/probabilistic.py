"""Probabilistic atlases: a template image, and for each of its voxels how often every structure lies there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.registration.intensity_scale import rescale_itk
from atlaseg.atlases.registration.transforms.frames import affine_of, from_itk, read_itk, to_itk
from atlaseg.atlases.registration.transforms.resampling import resample_image
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.registration.transforms.transform_files import read_transform, write_transform
from atlaseg.atlases.templates.population import Votes, common_names, robust_mean, votes_of
from atlaseg.atlases.templates.template_tasks import write_template
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.datasets.listing import inside
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError, LabelError, MissingFileError
from atlaseg.pipeline.io.files import read_json, write_text
from atlaseg.pipeline.io.volume import (
    grid_difference,
    read_header,
    read_voxels,
    write_label_map,
    write_probabilities,
)

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["MANIFEST", "Members", "ProbabilisticAtlas"]

Floats = npt.NDArray[np.float32]

MANIFEST = "probabilistic_atlas.json"
FORMAT = "atlaseg probabilistic atlas"
VERSION = 1
_IMAGE, _LABEL, _MAPS = "images/template.nii.gz", "labels/template.nii.gz", "probabilities.nii.gz"
#: Probabilities of a voxel may sum to one within this.
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class ProbabilisticAtlas:
    """A template image with one map of probability for each label, the background included.

    Args:
        name: what the atlas is called.
        template: float32 ITK image.
        probabilities: ``(K, x, y, z)`` float32 on its grid, sum to one over ``K``, background first.
        labels: values and names of the ``K`` labels.
        cases: names of the scans that it was made of.
        channel: which channel of the scans the template shows.
        channel_name: what that is called.

    Raises:
        GeometryError: maps lie on another grid, or are not as many as labels.
        DatasetError: maps are not probabilities.
    """

    name: str
    template: sitk.Image
    probabilities: Floats
    labels: LabelTable
    cases: tuple[str, ...] = ()
    channel: int = 0
    channel_name: str = "MRI"

    def __post_init__(self) -> None:
        expected = (len(self.labels), *self.template.GetSize())
        if self.probabilities.shape != expected:
            raise GeometryError(
                f"{self.name}: probabilities have shape {self.probabilities.shape}, expected {expected}: one map for "
                "each label, on the grid of the template"
            )
        low, high = float(self.probabilities.min()), float(self.probabilities.max())
        sums = self.probabilities.sum(axis=0)
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING and np.abs(sums - 1).max() <= _ROUNDING):
            raise DatasetError(
                f"{self.name}: the maps are not probabilities: expected 0 to 1 and a sum of 1 at each voxel, found "
                f"{low:.4g} to {high:.4g} and sums of {sums.min():.4g} to {sums.max():.4g}"
            )

    def label_map(self) -> npt.NDArray[Any]:
        """Most probable label of each voxel ``(x, y, z)``, in label values; ties go to the lowest."""
        return self.labels.to_values(self.probabilities.argmax(axis=0))

    def label_image(self) -> sitk.Image:
        """Most probable label of each voxel as an ITK image of channel indices, uint16."""
        return to_itk(self.probabilities.argmax(axis=0).astype(np.uint16), affine_of(self.template))

    def save(self, folder: Path) -> None:
        """Write the atlas as a folder of NIfTI and JSON files.

        ``probabilities.nii.gz`` is 4-D, one volume for each label in the order of the manifest. ``images/`` and
        ``labels/`` (most probable labels), with ``labels.json``, make the folder a data set of one case, so that
        :meth:`atlaseg.atlases.atlas_set.AtlasSet.read` takes it as a single atlas.

        Raises:
            DatasetError: the folder holds other scans.
            OSError: the folder cannot be written.
        """
        self._refuse_other_files(folder)
        manifest = folder / MANIFEST
        manifest.unlink(missing_ok=True)  # until the new files are whole, there is no atlas here
        image = folder / _IMAGE
        write_template(image, self.template)
        write_label_map(folder / _LABEL, self.label_map(), image)
        write_probabilities(folder / _MAPS, self.probabilities, image)
        names = dict(zip(self.labels.names, self.labels.values, strict=True))
        write_text(folder / "labels.json", json.dumps(names, indent=1, ensure_ascii=False) + "\n")
        write_text(folder / "channels.json", json.dumps([self.channel_name], ensure_ascii=False) + "\n")
        content = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "labels": {"values": list(self.labels.values), "names": list(self.labels.names)},
            "cases": list(self.cases),
            "channel": self.channel,
            "channel_name": self.channel_name,
            "files": {
                key: {"file": name, "sha256": _sha256(folder / name)}
                for key, name in (("image", _IMAGE), ("label", _LABEL), ("probabilities", _MAPS))
            },
        }
        write_text(manifest, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @staticmethod
    def _refuse_other_files(folder: Path) -> None:
        others = [folder / "dataset.json"] if (folder / "dataset.json").exists() else []
        for name in (_IMAGE, _LABEL):
            others += [p for p in (folder / name).parent.glob("[!.]*") if p != folder / name]
        if others:
            raise DatasetError(
                f"{min(others)}: does not belong to the atlas that is saved here; choose an empty folder"
            )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote; nothing in the folder is run.

        Raises:
            MissingFileError: there is no manifest, or a file that it names is not there.
            UnreadableFileError: a file is damaged.
            DatasetError, GeometryError, LabelError: the manifest or a file is not what it should be.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file; expected the folder of a probabilistic atlas")
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DatasetError(f"{path}: not a manifest of a probabilistic atlas; expected format {FORMAT!r}")
        if content.get("version") != VERSION:
            raise DatasetError(
                f"{path}: version {content.get('version')!r}, this atlaseg reads {VERSION}; update it"
            )
        files = _entry(content, "files", dict, path)
        image, maps = (_checked_file(files, key, folder, path) for key in ("image", "probabilities"))
        if difference := grid_difference(read_header(image), read_header(maps)):
            raise GeometryError(f"{maps}: not on the grid of {image.name} ({difference}); build it again")
        voxels = np.moveaxis(read_voxels(maps), -1, 0).astype(np.float32)
        cases = _entry(content, "cases", list, path)
        if not all(isinstance(name, str) for name in cases):
            raise DatasetError(f"{path}: cases must be a list of names; build the atlas again")
        try:
            return cls(
                name=_entry(content, "name", str, path),
                template=read_itk(image),
                probabilities=np.ascontiguousarray(voxels),
                labels=_labels(content, path),
                cases=tuple(cases),
                channel=_entry(content, "channel", int, path),
                channel_name=_entry(content, "channel_name", str, path),
            )
        except AtlasegError as error:
            raise type(error)(f"{folder}: {str(error).removeprefix(f'{folder}: ')}") from error


class Members:
    """The atlases that a probabilistic atlas is made of, from which it can also be made without one of them.

    Each atlas' votes are exact sums, so an atlas that is left out leaves no trace in the maps, nor in the mean image.
    What remains of it is its part, one in ``N``, in the mean *shape* of the template, to which the others are
    registered; a template built without it is free of that too, at the price of all registrations.

    Args:
        atlases: of the set.
        transforms: name -> template point -> atlas point; atlases without one take no part.
        template: image on whose grid the maps lie.
        channel: of the atlases.

    Raises:
        DatasetError: a transform is of an unknown atlas, or there is none.
        AtlasegError: a file is missing or broken.
    """

    def __init__(
        self,
        atlases: AtlasSet,
        transforms: Mapping[str, Transform],
        template: sitk.Image,
        *,
        channel: int = 0,
    ) -> None:
        self.names = common_names(atlases, transforms)
        self.known = atlases.names
        self.atlases = atlases.subset(self.names)
        self.transforms = {name: transforms[name] for name in self.names}
        self.template = template
        self.channel = channel
        self._votes = Votes(len(atlases.labels), template.GetSize())
        self._warped: TemporaryDirectory[str] | None = None
        for atlas in self.atlases.atlases:
            self._votes.add(self._votes_of(atlas.name))

    def _votes_of(self, name: str) -> Floats:
        atlas = self.atlases.subset([name]).atlases[0]
        return votes_of(atlas, self.atlases.labels, self.template, self.transforms[name])

    def atlas(self) -> ProbabilisticAtlas:
        """The atlas of all members, with the template as its image."""
        return self._make(self.template, self._votes.probabilities(), self.names)

    def without(self, name: str) -> ProbabilisticAtlas:
        """The atlas of all members but one, which contributes neither to the maps nor to the image.

        Raises:
            DatasetError: it is no member, or the only one.
        """
        others = tuple(member for member in self.names if member != name)
        if len(others) == len(self.names) or not others:
            raise DatasetError(
                f"{self.atlases.name}: no atlas can be made without {name}: not one of several"
            )
        images = [self._images() / f"{number}.npy" for number, n in enumerate(self.names) if n != name]
        mean = to_itk(robust_mean(images), affine_of(self.template))
        return self._make(mean, self._votes.without(self._votes_of(name)), others)

    def each_without(self) -> Iterator[tuple[str, ProbabilisticAtlas]]:
        """Every member's name with the atlas of the others."""
        for name in self.names:
            yield name, self.without(name)

    def _make(self, image: sitk.Image, maps: Floats, cases: tuple[str, ...]) -> ProbabilisticAtlas:
        labels, channels = self.atlases.labels, self.atlases.channels
        return ProbabilisticAtlas(
            self.atlases.name, image, maps, labels, cases, self.channel, channels[self.channel]
        )

    def _images(self) -> Path:
        """Folder with the warped images, made when first needed and gone with this object."""
        if self._warped is None:
            self._warped = TemporaryDirectory(prefix="atlaseg-members-")
            for number, atlas in enumerate(self.atlases.atlases):
                scaled = rescale_itk(atlas.image(self.channel), name=str(atlas.images[0]))
                transform = self.transforms[atlas.name]
                warped = resample_image(scaled, self.template, transform, outside=float("nan"))
                np.save(Path(self._warped.name) / f"{number}.npy", from_itk(warped)[0])
        return Path(self._warped.name)

    def save_transforms(self, folder: Path) -> None:
        """Write the transforms of all members, ``NAME.h5``, template -> atlas points."""
        for name, transform in self.transforms.items():
            write_transform(folder / f"{name}.h5", transform)

    @classmethod
    def load(cls, folder: Path, atlases: AtlasSet) -> Self:
        """Members of a saved atlas, from its ``transforms/`` and the scans that it was made of.

        Raises:
            MissingFileError: a transform is not there.
            DatasetError: the atlas was made of a scan that the set does not have, or of other labels.
            AtlasegError: a file is missing or broken.
        """
        atlas = ProbabilisticAtlas.load(folder)
        if atlas.labels != atlases.labels:
            raise DatasetError(f"{folder}: made of other labels than those of {atlases.name}; build it again")
        common_names(atlases, atlas.cases)
        transforms = {
            name: read_transform(folder / "transforms" / f"{name}.h5", own=True) for name in atlas.cases
        }
        return cls(atlases, transforms, atlas.template, channel=atlas.channel)


def _entry(content: dict[str, Any], key: str, kind: type, manifest: Path) -> Any:
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DatasetError(f"{manifest}: {key} is missing or not what it should be; build the atlas again")
    return value


def _checked_file(files: dict[str, Any], key: str, folder: Path, manifest: Path) -> Path:
    entry = _entry(files, key, dict, manifest)
    path = inside(folder, _entry(entry, "file", str, manifest), manifest)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file, but {manifest.name} names it; build the atlas again")
    if _sha256(path) != _entry(entry, "sha256", str, manifest):
        raise DatasetError(
            f"{path}: is not the file that was saved (its SHA-256 differs from {manifest.name}); build the atlas again"
        )
    return path


def _labels(content: dict[str, Any], manifest: Path) -> LabelTable:
    table = _entry(content, "labels", dict, manifest)
    values, names = _entry(table, "values", list, manifest), _entry(table, "names", list, manifest)
    if not all(type(v) is int for v in values) or not all(isinstance(n, str) for n in names):
        raise LabelError(f"{manifest}: labels must be whole numbers with a name each")
    return LabelTable(tuple(values), tuple(names))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
