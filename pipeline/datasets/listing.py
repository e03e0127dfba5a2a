"""What the readers of all layouts share: cases found on disk, and where their problems go.

A reader meets problems (a file that is not there, a name that occurs twice) and hands each to a ``report``
function. Reading for use raises at the first; ``atlaseg check`` collects them all and goes on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.case import Case, LabelTable
from pipeline.errors import AtlasegError, DatasetError, MissingFileError, UnreadableFileError
from pipeline.files import read_json as read_json_file
from pipeline.scan_names import SUFFIXES, volume_name

__all__ = [
    "CaseList",
    "Listing",
    "Report",
    "inside",
    "raise_at_once",
    "read_json",
    "split_channel",
    "volumes_in",
]

#: Formats that people put beside NIfTI files and that would otherwise be passed over in silence.
_OTHER_FORMATS = (".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".mgz", ".mgh", ".dcm", ".png", ".tif", ".tiff")
_CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})")


class Report(Protocol):
    """Takes a problem; returns where reading may go on without the file, or raises it."""

    def __call__(self, error: AtlasegError, file: Path) -> None:
        """Take a problem of a file."""
        ...


def raise_at_once(error: AtlasegError, file: Path) -> None:  # noqa: ARG001 (the signature is Report's)
    """The strict report: the first problem ends the reading."""
    raise error


@dataclass(frozen=True)
class Listing:
    """What a layout says about a data set, before any voxel is read.

    Args:
        folder: of the data set.
        layout: name of the layout, for people.
        name: of the data set.
        cases: sorted by name.
        labels: label values and names; ``None`` where only the label maps themselves know.
        channels: name of each input channel.
        absent_labels: case name -> label map that was looked for and is not there, where a layout allows it.
    """

    folder: Path
    layout: str
    name: str
    cases: tuple[Case, ...]
    labels: LabelTable | None
    channels: tuple[str, ...]
    absent_labels: dict[str, Path] = field(default_factory=dict)


class CaseList:
    """Collects cases whose files exist and whose names are unique; everything else goes to the report."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._cases: dict[str, Case] = {}

    def add(self, name: str, images: Sequence[Path], label: Path | None) -> None:
        """Add a case, without a label map that is not there, or not at all where an image is not there."""
        missing = [path for path in [*images, *([label] if label else [])] if not path.is_file()]
        for path in missing:
            self._report(MissingFileError(f"{path}: no such file; case {name} needs it"), path)
        if set(missing) & set(images):
            return
        if name in self._cases:
            other = self._cases[name].images[0]
            problem = f"case name {name} is also that of {other}; names must be unique, rename one"
            self._report(DatasetError(f"{images[0]}: {problem}"), images[0])
            return
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


def inside(folder: Path, text: str, source: Path) -> Path:
    """Path that a data set's own file names, if it stays in the data set's folder.

    Args:
        folder: of the data set.
        text: relative path as written, such as ``./imagesTr/a.nii.gz``.
        source: the file that names it, for the message.

    Raises:
        DatasetError: the path is absolute or leads out of the folder, by ``..`` or through a link.
    """
    if "\0" in text:
        raise DatasetError(f"{source}: path {text!r} is no file name")
    if not (folder / text).resolve().is_relative_to(folder.resolve()) or Path(text).is_absolute():
        problem = "leaves the data set's folder; put the file inside and name it from there"
        raise DatasetError(f"{source}: path {text!r} {problem}")
    return folder / text


def volumes_in(folder: Path, report: Report) -> list[Path]:
    """NIfTI files of a folder, sorted; hidden files (macOS writes ``._name`` beside ``name``) are no volumes.

    Images in other formats are reported, since leaving them out would change the data set in silence.
    """
    if not folder.is_dir():
        return []
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    for path in files:
        if path.name.lower().endswith(_OTHER_FORMATS):
            problem = f"expected NIfTI (.nii.gz or .nii), found {path.suffix}; convert it or move it away"
            report(DatasetError(f"{path}: {problem}"), path)
    return [path for path in files if path.name.lower().endswith(SUFFIXES)]


def split_channel(path: Path) -> tuple[str, int] | None:
    """Case name and channel number of ``NAME_0000.nii.gz``, ``None`` for a name without the four digits.

    >>> split_channel(Path("BRATS_001_0002.nii.gz"))
    ('BRATS_001', 2)
    >>> split_channel(Path("scan.nii.gz")) is None
    True
    """
    match = _CHANNEL.fullmatch(volume_name(path))
    return (match["name"], int(match["channel"])) if match else None
