"""Code shared by the readers of all layouts: collect cases and report problems.

A reader meets problems (a file that is not there, a name that occurs twice) and hands each to a ``report``
function. Reading for use raises at the first; ``atlaseg check`` collects them all and continues.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from atlaseg.pipeline.case import Case, LabelTable
from atlaseg.pipeline.errors import AtlasegError, DatasetError, MissingFileError, UnreadableFileError
from atlaseg.pipeline.io.files import read_json as read_json_file
from atlaseg.pipeline.io.scan_names import enumerated, list_volumes

__all__ = [
    "DESCRIPTION",
    "UNNAMED",
    "CaseList",
    "Layout",
    "Listing",
    "Report",
    "check_number",
    "description",
    "inside",
    "left_out",
    "raise_at_once",
    "read_json",
    "volumes_in",
]


#: The file in which several layouts describe a data set.
DESCRIPTION = "dataset.json"
#: Name of a data set that has none in its own files; that of its folder may be a person's, and outputs hold the name.
UNNAMED = "data set"


class Report(Protocol):
    """Takes a problem; returns if reading can continue without the file, or raises it."""

    def __call__(self, error: AtlasegError, file: Path) -> None:
        """Take a problem of a file."""
        ...


def raise_at_once(error: AtlasegError, file: Path) -> None:  # noqa: ARG001 (the signature is Report's)
    """Strict report: raise the first problem."""
    raise error


@dataclass(frozen=True)
class Listing:
    """Content of a data set as its layout lists it, before any voxel is read.

    Args:
        folder: of the data set.
        layout: name of the layout, for people.
        name: of the data set.
        cases: sorted by name.
        labels: label values and names; ``None`` where only the label maps themselves know.
        channels: name of each input channel.
        left_out: folder -> volumes in it that are no part of the data set, in words.
        channels_named_by: the file that names them; ``None`` where none does.
        absent_labels: case name -> label map that was looked for and is not there, where a layout allows it.
    """

    folder: Path
    layout: str
    name: str
    cases: tuple[Case, ...]
    labels: LabelTable | None
    channels: tuple[str, ...]
    channels_named_by: str | None = "dataset.json"
    absent_labels: dict[str, Path] = field(default_factory=dict)
    left_out: dict[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A layout of data sets.

    Args:
        recognises: whether a folder has this layout, by the names of its files and by what its ``dataset.json`` says;
            a file that cannot be read is refused.
        list_cases: what the layout says of such a folder; each problem of a single file or case goes to the report.
    """

    recognises: Callable[[Path], bool]
    list_cases: Callable[[Path, Report], Listing]


class CaseList:
    """Collects cases whose files exist and whose names are unique; everything else goes to the report."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._cases: dict[str, Case] = {}
        self._first: dict[str, Path] = {}

    def add(self, name: str, images: Sequence[Path], label: Path | None) -> None:
        """Add a case, without a label map that is not there, or not at all where an image is not there."""
        missing = [path for path in [*images, *([label] if label else [])] if not path.is_file()]
        for path in missing:
            self._report(MissingFileError(f"{path}: no such file; case {name} needs it"), path)
        if set(missing) & set(images):
            return
        # file systems of macOS and Windows take upper and lower case for the same
        if (other := self._first.get(name.casefold())) is not None:
            problem = f"case name {name} is also that of {other}; names must be unique, rename one"
            self._report(DatasetError(f"{images[0]}: {problem}"), images[0])
            return
        self._first[name.casefold()] = images[0]
        try:
            self._cases[name] = Case(name, tuple(images), None if label in missing else label)
        except DatasetError as error:
            self._report(DatasetError(f"{images[0]}: {error}"), images[0])

    def sorted(self) -> tuple[Case, ...]:
        """The cases by name."""
        return tuple(self._cases[name] for name in sorted(self._cases))


def read_json(path: Path, kind: type[Any] = dict) -> Any:
    """Content of a data set's own JSON file, an object or what ``kind`` says.

    Raises:
        DatasetError: the file is not JSON, or holds something else.
    """
    try:
        return read_json_file(path, kind)
    except UnreadableFileError as error:
        raise DatasetError(str(error)) from error


def description(folder: Path) -> dict[str, Any]:
    """Content of a folder's ``dataset.json``; nothing where there is none.

    Raises:
        DatasetError: the file is not JSON, or holds something else than an object.
    """
    path = folder / DESCRIPTION
    content: dict[str, Any] = read_json(path) if path.is_file() else {}
    return content


def inside(folder: Path, text: str, source: Path) -> Path:
    """Path that a data set's own file names, if it stays in the data set's folder.

    Links in the folder may lead anywhere: who put them there wants them followed.

    Args:
        folder: of the data set.
        text: relative path as written, such as ``./imagesTr/a.nii.gz``.
        source: the file that names it, for the message.

    Raises:
        DatasetError: the path is absolute or leads out of the folder by ``..``.
    """
    if "\0" in text:
        raise DatasetError(f"{source}: path {text!r} is not a file name")
    # Taken together as text, so that a link before ".." leads nowhere else.
    path = Path(os.path.normpath(text))
    if path.is_absolute() or path.parts[:1] == ("..",):
        problem = "leaves the data set's folder; put the file, or a link to it, inside and name it from there"
        raise DatasetError(f"{source}: path {text!r} {problem}")
    return folder / path


def volumes_in(folder: Path, report: Report) -> list[Path]:
    """NIfTI files of a folder, sorted; none where there is no such folder.

    Two files of one name, and images in other formats, are reported, since leaving them out would change the data set
    in silence.
    """
    if not folder.is_dir():
        return []
    found = list_volumes(folder)
    for path, problem in {**found.refused, **found.scans, **found.pictures}.items():
        report(DatasetError(f"{path}: {problem}"), path)
    return list(found.volumes)


def left_out(files: Iterable[Path], *, listed: bool) -> dict[Path, str]:
    """Files beside those of the cases that are not part of the data set, by folder.

    Args:
        files: images and label maps of all cases.
        listed: whether ``dataset.json`` names them, so that there may be volumes that it does not name.
    """
    used = set(files)
    notes = {}
    for folder in sorted({file.parent for file in used}):
        if not folder.is_dir():
            continue
        found = list_volumes(folder)
        lines = []
        if listed and (unused := [path.name for path in found.volumes if path not in used]):
            lines.append(f"not listed in dataset.json and not used: {enumerated(unused)}")
        if found.folders:
            lines.append(
                f"scans in folders below it are not used: {enumerated(p.name for p in found.folders)}"
            )
        if lines:
            notes[folder] = "; ".join(lines)
    return notes


def check_number(content: dict[str, Any], found: int, source: Path, report: Report) -> None:
    """Report ``numTraining`` if it differs from the number of training cases; the entry is optional."""
    stated = content.get("numTraining", found)
    if isinstance(stated, bool) or str(stated) != str(found):
        problem = (
            f"numTraining is {stated!r}, found {found} training cases; add what is missing, or correct it"
        )
        report(DatasetError(f"{source}: {problem}"), source)
