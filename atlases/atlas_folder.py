"""Save and load a set of atlases as a folder of plain files with a manifest that lists them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.registration.points.landmarks import (
    landmarks_name,
    read_landmarks,
    write_landmarks,
)
from atlaseg.pipeline.case import LabelTable, value_counts
from atlaseg.pipeline.datasets.listing import inside
from atlaseg.pipeline.errors import AtlasegError, DatasetError, MissingFileError
from atlaseg.pipeline.io.files import read_json, write_text
from atlaseg.pipeline.io.mask import read_mask
from atlaseg.pipeline.io.volume import (
    read_header,
    read_label_map,
    read_voxels,
    write_image,
    write_label_map,
)

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MANIFEST", "SavedAtlases", "load_atlases", "of_manifest", "save_atlases"]

MANIFEST = "atlases.json"
FORMAT = "atlaseg atlases"
VERSION = 1
_FOLDERS = ("images", "labels", "masks", "landmarks")


@dataclass(frozen=True)
class SavedAtlases:
    """Content of a folder of atlases: the fields of an :class:`atlaseg.atlases.atlas_set.AtlasSet`, not yet checked.

    Args:
        name: what the collection is called.
        atlases: the files of each.
        labels: the label values and their names.
        channels: name of each channel.
        channels_named_by: file or option that names them; ``None`` if they are unnamed.
    """

    name: str
    atlases: tuple[Atlas, ...]
    labels: LabelTable
    channels: tuple[str, ...]
    channels_named_by: str | None = None


def save_atlases(
    atlases: SavedAtlases, folder: Path, *, copy: bool = True, executor: Executor | None = None
) -> None:
    """Write a self-contained folder: ``images/``, ``labels/``, ``masks/``, ``landmarks/`` and the manifest.

    :func:`atlaseg.pipeline.datasets.read_dataset` and ``AtlasSet.read`` read the folder too. Grids are kept to the last
    digit; free text and extensions of the headers, and the descriptions of landmarks, which may hold a patient's name,
    are not. The manifest comes last, so that an interrupted copy cannot be taken for a whole one.

    Args:
        atlases: the collection; its files are read, never changed.
        folder: made if it is not there; must not hold other scans.
        copy: without it, the files must lie in the folder already and only the manifest is written.
        executor: copies the atlases in parallel.

    Raises:
        DatasetError: the folder holds other files than those of the set, or, without ``copy``, not all of these.
        LabelError, GeometryError, UnreadableFileError, MissingFileError: an atlas is not readable.
        OSError: the folder cannot be written.
    """
    manifest = folder / MANIFEST
    copies = {atlas.name: _copy_of(atlas, folder) if copy else atlas for atlas in atlases.atlases}
    if copy:
        _refuse_other_files(folder, list(copies.values()))
        manifest.unlink(missing_ok=True)
        pairs = (atlases.atlases, [copies[atlas.name] for atlas in atlases.atlases])
        done = executor.map(_copy, *pairs) if executor else map(_copy, *pairs)
        list(done)
        _write_names(atlases, folder)
    else:
        _refuse_outside(folder, atlases)
    describe = partial(_entry, labels=atlases.labels, folder=folder)
    entries = list((executor.map if executor else map)(describe, copies.values()))
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": atlases.name,
        "channels": list(atlases.channels),
        "labels": {"values": list(atlases.labels.values), "names": list(atlases.labels.names)},
        "atlases": entries,
    }
    write_text(manifest, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _write_names(atlases: SavedAtlases, folder: Path) -> None:
    names = dict(zip(atlases.labels.names, atlases.labels.values, strict=True))
    write_text(folder / "labels.json", json.dumps(names, indent=1, ensure_ascii=False) + "\n")
    if atlases.channels_named_by is not None:  # otherwise the intensities decide
        write_text(folder / "channels.json", json.dumps(list(atlases.channels), ensure_ascii=False) + "\n")


def _copy_of(atlas: Atlas, folder: Path) -> Atlas:
    """Target paths of the files of an atlas: one image for each channel, named as in the plain layout."""
    number = sum(read_header(path).channels for path in atlas.images)
    names = [atlas.name] if number == 1 else [f"{atlas.name}_{channel:04d}" for channel in range(number)]
    points = atlas.landmarks
    suffix = points.name[len(landmarks_name(points)) :] if points else ""
    return replace(
        atlas,
        images=tuple(folder / "images" / f"{name}.nii.gz" for name in names),
        label=folder / "labels" / f"{atlas.name}.nii.gz",
        mask=folder / "masks" / f"{atlas.name}.nii.gz" if atlas.mask else None,
        landmarks=folder / "landmarks" / f"{atlas.name}{suffix}" if points else None,
    )


def _files(atlas: Atlas) -> Iterator[Path]:
    optional = (atlas.mask, atlas.landmarks)
    yield from (*atlas.images, atlas.label, *(path for path in optional if path is not None))


def _refuse_other_files(folder: Path, copies: list[Atlas]) -> None:
    """Refuse a folder with further files, which would become part of the set when it is read as a data set."""
    if (folder / "dataset.json").exists():
        raise DatasetError(f"{folder}: already holds a data set (dataset.json); choose another folder")
    ours = [path for atlas in copies for path in _files(atlas)]
    if len(set(ours)) < len(ours):
        twice = next(path for path in ours if ours.count(path) > 1)
        raise DatasetError(
            f"{twice}: would be written for two atlases; rename one, names like NAME_0000 mean channels"
        )
    for name in _FOLDERS:
        for path in sorted((folder / name).glob("[!.]*")):
            if path not in set(ours):
                raise DatasetError(
                    f"{path}: does not belong to atlas set being saved there; choose an empty folder"
                )


def _refuse_outside(folder: Path, atlases: SavedAtlases) -> None:
    for atlas in atlases.atlases:
        for path in _files(atlas):
            if not path.resolve().is_relative_to(folder.resolve()):
                raise DatasetError(f"{path}: lies outside {folder}; save with a copy of the files")


def _copy(atlas: Atlas, target: Atlas) -> None:
    """Voxels and grids, nothing else of the headers."""
    write_label_map(target.label, _smallest(read_label_map(atlas.label)), atlas.label)
    if atlas.mask is not None and target.mask is not None:
        write_label_map(target.mask, read_mask(atlas.mask).astype(np.uint8), atlas.mask)
    files = iter(target.images)
    for path in atlas.images:
        header, voxels = read_header(path), read_voxels(path)
        for channel in np.moveaxis(voxels.reshape(*header.spatial_shape, -1), -1, 0):
            write_image(next(files), channel, path)
    if atlas.landmarks is not None and target.landmarks is not None:
        write_landmarks(target.landmarks, read_landmarks(atlas.landmarks))


def _smallest(label_map: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    return label_map.astype(LabelTable.from_values((0, int(label_map.max(initial=0)))).dtype)


def _entry(atlas: Atlas, labels: LabelTable, folder: Path) -> dict[str, Any]:
    """Entry of one atlas in the manifest."""
    header = read_header(atlas.label)
    counts = value_counts(read_label_map(atlas.label))
    return {
        "name": atlas.name,
        "images": [_file(path, folder) for path in atlas.images],
        "label": _file(atlas.label, folder),
        "mask": _file(atlas.mask, folder) if atlas.mask else None,
        "landmarks": _file(atlas.landmarks, folder) if atlas.landmarks else None,
        "shape": list(header.spatial_shape),
        "voxel_size_mm": [round(size, 6) for size in header.spacing],
        "voxels": {name: counts.get(value, 0) for value, name in labels.structures.items()},
    }


def _file(path: Path, folder: Path) -> dict[str, str]:
    relative = path.resolve().relative_to(folder.resolve()).as_posix()
    return {"file": relative, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_atlases(folder: Path, *, verify: bool = True) -> SavedAtlases:
    """Atlases as their manifest lists them; nothing in the folder is run.

    Args:
        folder: that :func:`save_atlases` wrote.
        verify: compare every file with its SHA-256.

    Raises:
        MissingFileError: there is no manifest, or a file that it names is not there.
        UnreadableFileError: the manifest is not JSON.
        DatasetError: the manifest is not one, is of a newer version, names a file outside the folder, or a file
            is no longer what it was.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise MissingFileError(
            f"{manifest}: no such file; was saving interrupted? Save the atlases again, or read the folder as data"
        )
    content = read_json(manifest)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f"{manifest}: not a manifest of atlases; expected format {FORMAT!r}")
    if content.get("version") != VERSION:
        raise DatasetError(
            f"{manifest}: version {content.get('version')!r}, this atlaseg reads {VERSION}; update it"
        )
    entries = _get(content, "atlases", list, manifest)
    return SavedAtlases(
        _get(content, "name", str, manifest),
        tuple(_atlas(entry, folder, verify=verify) for entry in entries),
        _labels(content, manifest),
        _names(content, manifest),
    )


def _get(entry: Any, key: str, kind: type | tuple[type, ...], manifest: Path) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DatasetError(f"{manifest}: {key} is missing or not what it should be; save the atlases again")
    return value


def _names(content: dict[str, Any], manifest: Path) -> tuple[str, ...]:
    names = _get(content, "channels", list, manifest)
    if not names or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{manifest}: channels must be a list of names, found {names!r}")
    return tuple(names)


def _labels(content: dict[str, Any], manifest: Path) -> LabelTable:
    table = _get(content, "labels", dict, manifest)
    values, names = _get(table, "values", list, manifest), _get(table, "names", list, manifest)
    if not all(type(v) is int for v in values) or not all(isinstance(n, str) for n in names):
        raise DatasetError(f"{manifest}: labels must be whole numbers with a name each")
    try:
        return LabelTable(tuple(values), tuple(names))
    except AtlasegError as error:
        raise DatasetError(f"{manifest}: {error}") from error


def _atlas(entry: Any, folder: Path, *, verify: bool) -> Atlas:
    manifest = folder / MANIFEST

    def path_of(file: Any) -> Path:
        path = inside(folder, _get(file, "file", str, manifest), manifest)
        if not path.is_file():
            raise MissingFileError(
                f"{path}: no such file, but {manifest.name} lists it; restore it or save again"
            )
        if verify and _sha256(path) != _get(file, "sha256", str, manifest):
            raise DatasetError(
                f"{path}: is not the file that was saved (its SHA-256 differs from {manifest.name}); restore it, "
                "or save the atlases again"
            )
        return path

    mask, points = (_get(entry, key, (dict, type(None)), manifest) for key in ("mask", "landmarks"))
    try:
        return Atlas(
            name=_get(entry, "name", str, manifest),
            images=tuple(path_of(file) for file in _get(entry, "images", list, manifest)),
            label=path_of(_get(entry, "label", dict, manifest)),
            mask=path_of(mask) if mask else None,
            landmarks=path_of(points) if points else None,
        )
    except DatasetError as error:
        raise of_manifest(error, folder) from error


def of_manifest(error: DatasetError, folder: Path) -> DatasetError:
    """The error with the manifest's name before it, unless it names a file of the folder already."""
    return error if str(error).startswith(str(folder)) else DatasetError(f"{folder / MANIFEST}: {error}")
