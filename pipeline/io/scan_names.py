"""Names of scans: which files are volumes, which of them are one scan, and what it is called.

Data sets, ``segment``, ``evaluate``, ``fuse`` and masks all ask here, so that they see the same scans.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atlaseg.pipeline.errors import DatasetError, UnreadableFileError

__all__ = [
    "SUFFIXES",
    "Grouping",
    "VolumeList",
    "digits_in_names",
    "enumerated",
    "find_volume",
    "group_scans",
    "is_volume",
    "list_volumes",
    "name_problem",
    "split_channel",
    "suffix_of",
    "volume_name",
]

#: Endings of the files that are read and written, in lower case; names may have them in any case.
SUFFIXES = (".nii.gz", ".nii")
#: Formats of scans that are not read. Files of theirs are most likely patients, so nothing passes over them in silence.
_OTHER_SCANS = (".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".mgz", ".mgh", ".mnc", ".gipl", ".dcm")
_OTHER_PACKING = (".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip")
#: Pictures, which are scans in some data sets, and figures beside scans elsewhere.
_PICTURES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
#: Bytes of a name, which leave room for ``_probabilities.nii.gz`` in the 255 that file systems allow.
_LONGEST = 220
_CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})", re.ASCII | re.DOTALL)


def suffix_of(path: Path) -> str:
    """``.nii.gz`` or ``.nii`` as the file has it (``.NII.GZ``), empty for other files.

    >>> suffix_of(Path("a.NII.GZ")), suffix_of(Path("a.nii")), suffix_of(Path("a.mha"))
    ('.NII.GZ', '.nii', '')
    """
    ending = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[len(path.name) - len(ending) :]


def is_volume(path: Path) -> bool:
    """Whether the name is that of a volume; hidden files (macOS writes ``._name`` beside ``name``) are none.

    >>> is_volume(Path("a.NII")), is_volume(Path("._a.nii")), is_volume(Path("a.json"))
    (True, False, False)
    """
    return bool(suffix_of(path)) and not path.name.startswith(".")


def volume_name(path: Path) -> str:
    """File name without ``.nii`` or ``.nii.gz``, accents composed (macOS takes them apart, others do not).

    >>> volume_name(Path("scans/patient.01.nii.gz"))
    'patient.01'
    """
    suffix = suffix_of(path)
    return unicodedata.normalize("NFC", path.name[: -len(suffix)] if suffix else path.stem)


def split_channel(path: Path) -> tuple[str, int] | None:
    """Name and number of ``NAME_0000.nii.gz``, ``None`` for a name without the four digits.

    The number may be that of a channel, as nnU-Net has it, or belong to the name: :func:`group_scans` decides.

    >>> split_channel(Path("BRATS_001_0002.nii.gz"))
    ('BRATS_001', 2)
    >>> split_channel(Path("scan.nii.gz")) is None
    True
    """
    match = _CHANNEL.fullmatch(volume_name(path))
    return (match["name"], int(match["channel"])) if match else None


def name_problem(name: str) -> str | None:
    """Why a name cannot be that of a scan, whose results are called after it; ``None`` where it can.

    Blanks, accents, other scripts and signs are fine.

    >>> name_problem("größe 1 100%"), name_problem("a/b") is None
    (None, False)
    """
    if not name or name in {".", ".."} or "/" in name or "\\" in name:
        return f"case name {name!r} is not usable as a file name"
    # control characters break tables and terminals; half a surrogate pair stands for bytes that are no text
    if any(unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} for sign in name):
        return f"case name {name!r} holds characters that cannot be written; rename it"
    if len(name.encode()) > _LONGEST:
        return f"case name {name!r} is too long for the names of its results; shorten it to {_LONGEST} bytes"
    return None


@dataclass(frozen=True)
class VolumeList:
    """Content of a folder of scans or label maps; hidden files are ignored.

    Args:
        volumes: NIfTI files, sorted, no two of the same name.
        refused: those that cannot be taken, and why: with the name of another one (``a.nii`` beside ``a.nii.gz``,
            ``A.nii`` beside ``a.nii``), or with a name that cannot be written.
        scans: files of formats that hold scans and are not read, and what to do with them.
        pictures: likewise, of formats that may hold a scan or a figure.
        others: all other files.
        folders: with volumes in them, which are not read.
    """

    volumes: tuple[Path, ...]
    refused: Mapping[Path, str]
    scans: Mapping[Path, str]
    pictures: Mapping[Path, str]
    others: tuple[Path, ...]
    folders: tuple[Path, ...]

    def notes(self) -> list[str]:
        """One line for each kind of thing that is neither a volume nor refused; volumes in folders are counted."""
        lines = []
        if files := [*self.pictures, *self.others]:
            lines.append(f"{files[0].parent}: left out, not NIfTI: {enumerated(path.name for path in files)}")
        if self.folders:
            names = enumerated(f"{path.name}/" for path in self.folders)
            lines.append(
                f"{self.folders[0].parent}: left out, scans in folders below it: {names}; name these folders themselves"
            )
        return lines


def enumerated(names: Iterable[str], most: int = 20) -> str:
    """Names in a row, not more than so many of them.

    >>> enumerated("abcd", most=2)
    'a, b and 2 more'
    """
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def list_volumes(folder: Path) -> VolumeList:
    """Volumes of a folder, and what else is there; links are followed.

    Raises:
        UnreadableFileError: the folder cannot be listed.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UnreadableFileError(f"{folder}: cannot be listed ({error.strerror})") from error
    volumes: dict[str, Path] = {}
    refused, scans, pictures = {}, {}, {}
    others, folders = [], []
    for path in entries:
        lower = path.name.lower()
        if path.is_dir():
            if _holds_volumes(path):
                folders.append(path)
        elif is_volume(path) and (problem := name_problem(volume_name(path))):
            refused[path] = problem
        elif is_volume(path):
            # file systems of macOS and Windows take upper and lower case for the same
            first = volumes.setdefault(volume_name(path).casefold(), path)
            if first is not path:
                refused[path] = (
                    f"case name {volume_name(path)} is also that of {first}; names must be unique "
                    "(upper and lower case count as one), rename or remove one of the two"
                )
        elif lower.endswith((*_OTHER_SCANS, *_OTHER_PACKING)):
            scans[path] = _convert(path)
        elif lower.endswith(_PICTURES):
            pictures[path] = _convert(path)
        else:
            others.append(path)
    return VolumeList(tuple(volumes.values()), refused, scans, pictures, tuple(others), tuple(folders))


def _convert(path: Path) -> str:
    return f"expected NIfTI (.nii.gz or .nii), found {path.suffix}; convert it or move it away"


def _holds_volumes(folder: Path) -> bool:
    """Whether there are volumes anywhere below; links to folders are not followed, since they may go round."""
    return any(
        is_volume(Path(name)) or name.lower().endswith((*_OTHER_SCANS, *_OTHER_PACKING))
        for _, _, names in os.walk(folder)
        for name in names
    )


def find_volume(folder: Path, names: Sequence[str]) -> Path | None:
    """The volume of a folder that has the first of these names, else the next.

    Raises:
        DatasetError: two files have the name.
        UnreadableFileError: the folder cannot be listed.
    """
    found = list_volumes(folder)
    by_name = {volume_name(path): path for path in found.volumes}
    for name in names:
        for twin, problem in found.refused.items():
            if volume_name(twin).casefold() == name.casefold():
                raise DatasetError(f"{twin}: {problem}")
        if name in by_name:
            return by_name[name]
    return None


def digits_in_names(cases: Iterable[tuple[str, Sequence[Path]]]) -> bool | None:
    """Whether four digits at the end of a file belong to the name of the scan, as far as known cases show.

    Args:
        cases: name and files of each.

    Returns:
        True where cases are called like their files, ``p_0012``; False where ``c_0000.nii.gz`` is case ``c``; ``None``
        where no file has four digits.

    >>> digits_in_names([("c", [Path("c_0000.nii.gz")])])
    False
    >>> digits_in_names([("p_0012", [Path("p_0012.nii.gz")])])
    True
    """
    decided = None
    for name, files in cases:
        parts = split_channel(files[0]) if files else None
        if parts is not None and parts[0] == name:
            return False
        if parts is not None and len(files) == 1 and volume_name(files[0]) == name:
            decided = True
    return decided


@dataclass(frozen=True)
class Grouping:
    """Files of a folder grouped into scans.

    Args:
        scans: files of each scan by its name, one for each channel or one for all.
        problems: files that are no scan by themselves and no part of one, and why.
    """

    scans: Mapping[str, tuple[Path, ...]]
    problems: Mapping[Path, str]


def group_scans(
    files: Sequence[Path],
    channels: int | None,
    volumes_in: Callable[[Path], int | None],
    *,
    known: Collection[str] = (),
    digits: bool | None = None,
) -> Grouping:
    """Group files into scans, and name each scan.

    ``p_0001.nii.gz`` may be channel 1 of ``p``, or a scan called ``p_0001``. Known names decide; otherwise the number
    of channels and what the files hold: a file with all channels is a scan, files ``p_0000``, ``p_0001``, ... that make
    up all channels together are one. Where no file but ``_0000`` holds all channels, the digits are nnU-Net's.

    Args:
        files: volumes of one folder, without twins.
        channels: how many a scan has; ``None`` takes what the known names say, and without any every file as a scan.
        volumes_in: number of volumes in a file (1 for a 3-D file), ``None`` where it cannot be read.
        known: names of label maps.
        digits: whether four digits belong to names, as :func:`digits_in_names` says.
    """
    found = _Scans()
    groups: _Groups = {}
    for path in files:
        parts = split_channel(path)
        if parts is None or volume_name(path) in known:
            found.add(volume_name(path), [path])
        else:
            groups.setdefault(parts[0], {})[parts[1]] = path
    named = {prefix: group for prefix, group in groups.items() if prefix in known}
    rest = {prefix: group for prefix, group in groups.items() if prefix not in known}
    number = max((max(group) + 1 for group in named.values()), default=0)
    found.add_named(named, number)
    if named and channels is None:
        channels, digits = number, False
    if channels is None:
        for path in (path for group in rest.values() for path in group.values()):
            found.add(volume_name(path), [path])
    else:
        found.add_by_content(rest, channels, volumes_in, digits=digits)
    return Grouping({name: found.scans[name] for name in sorted(found.scans)}, found.problems)


#: Files that differ in their four digits, by what stands before them.
_Groups = dict[str, dict[int, Path]]


class _Scans:
    """Scans that have been grouped so far."""

    def __init__(self) -> None:
        self.scans: dict[str, tuple[Path, ...]] = {}
        self.problems: dict[Path, str] = {}
        self._first: dict[str, Path] = {}

    def add(self, name: str, files: Sequence[Path]) -> None:
        other = self._first.setdefault(name.casefold(), files[0])
        if other is not files[0]:
            self.problems[files[0]] = (
                f"case name {name} is also that of {other}; names must be unique, rename one"
            )
        else:
            self.scans[name] = tuple(files)

    def add_named(self, groups: _Groups, number: int) -> None:
        """Groups that are known to be channels; each gets all, so that one that is not there is missed by name."""
        for prefix, group in groups.items():
            files = [group.get(n) or _sibling(group, prefix, n) for n in range(number)]
            if doubtful := [path for path in files if volume_name(path) in self.scans]:
                name = volume_name(doubtful[0])
                self.problems[doubtful[0]] = f"is it case {name}, or a channel of case {prefix}? Rename one"
            else:
                self.add(prefix, files)

    def add_by_content(
        self,
        groups: _Groups,
        channels: int,
        volumes_in: Callable[[Path], int | None],
        *,
        digits: bool | None,
    ) -> None:
        """Add groups that only their numbers and headers identify; arguments as of :func:`group_scans`."""
        whole, partial = _whole_files(groups, channels, volumes_in)
        if digits is None:
            digits = any(number for group in whole.values() for number in group)
        for prefix, group in whole.items():
            alone = set(groups[prefix]) == {0} and not digits
            for path in group.values():
                self.add(prefix if alone else volume_name(path), [path])
        for prefix, group in partial.items():
            counts = [volumes_in(path) for path in group.values()]
            if sorted(group) == list(range(len(group))) and sum(n or 1 for n in counts) == channels:
                self.add(prefix, [group[number] for number in range(len(group))])
            elif None in counts:  # reading it says what is wrong
                for path in group.values():
                    self.add(volume_name(path), [path])
            else:
                self.problems[group[min(group)]] = _incomplete(prefix, group, channels)


def _sibling(group: Mapping[int, Path], prefix: str, number: int) -> Path:
    some = next(iter(group.values()))
    return some.with_name(f"{prefix}_{number:04d}{suffix_of(some)}")


def _whole_files(
    groups: _Groups, channels: int, volumes_in: Callable[[Path], int | None]
) -> tuple[_Groups, _Groups]:
    """Files that hold all channels, and the others."""
    whole: _Groups = {}
    partial: _Groups = {}
    for prefix, group in groups.items():
        for number, path in group.items():
            # with one channel there is nothing to group, and a wrong file is refused when it is read
            kind = whole if channels == 1 or volumes_in(path) == channels else partial
            kind.setdefault(prefix, {})[number] = path
    return whole, partial


def _incomplete(prefix: str, group: Mapping[int, Path], channels: int) -> str:
    found = ", ".join(path.name for _, path in sorted(group.items()))
    missing = [_sibling(group, prefix, n).name for n in range(channels) if n not in group]
    problem = (
        f"{', '.join(missing)}: this channel of scan {prefix} is missing"
        if missing
        else f"these are not the {channels} channels of scan {prefix}"
    )
    return f"{problem}; found {found}; give {channels} files, or one 4-D file with all channels"
