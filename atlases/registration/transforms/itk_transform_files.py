"""ITK's own transform files, looked through before ITK reads them.

``.tfm``, ``.txt`` hold lines of text; ``.mat`` MATLAB 4 matrices, one of parameters and one named ``fixed`` for each
transform; ``.h5`` groups of HDF5. A file of several transforms begins with a ``CompositeTransform``; without one, ITK
gives a list in no stated order (and SimpleITK its first element only), so such files are refused.
"""

from __future__ import annotations

import mmap
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.quiet import quiet
from atlaseg.atlases.registration.transforms.foreign_transforms import foreign_transform
from atlaseg.atlases.registration.transforms.itk_parameters import (
    COMPOSITE,
    Kind,
    Record,
    problem_of,
    problem_of_part,
)
from atlaseg.atlases.registration.transforms.transform import Transform, parts_of
from atlaseg.pipeline.errors import AtlasegError, OptionError, UnreadableFileError

if TYPE_CHECKING:
    pass

__all__ = ["ITK_SUFFIXES", "ONE_AT_A_TIME", "read_itk_transform"]

TEXT_SUFFIXES, MATLAB_SUFFIXES, HDF5_SUFFIXES = (".tfm", ".txt"), (".mat",), (".h5", ".hdf5")
ITK_SUFFIXES = (*TEXT_SUFFIXES, *HDF5_SUFFIXES, *MATLAB_SUFFIXES)

#: The HDF5 library inside ITK may be called by one thread at a time.
ONE_AT_A_TIME = Lock()

#: How every HDF5 file begins.
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: Each transform of a file but the composite has one such entry (older versions of ITK misspelt its beginning).
_HDF5_ENTRY = b"ormFixedParameters"
_SECONDS_TO_TRY = 120


def read_itk_transform(path: Path, own: bool = False) -> Transform:
    """Transform of an ITK file that is there.

    Args:
        path: kind by suffix, one of :data:`ITK_SUFFIXES`.
        own: it was written by this software, so HDF5 is not tried in a separate process first.

    Raises:
        OptionError: the transform is not 3-D.
        UnreadableFileError: the file is damaged, or something else than its suffix says; its transforms have no stated
            order; parameters are too few or too many, not finite, or of a grid that cannot be; a matrix is singular.
    """
    import SimpleITK as sitk

    if what := foreign_transform(path):
        raise UnreadableFileError(f"{path}: not a transform of ITK but {what}")
    suffix = path.suffix.lower()
    if path.suffix != suffix:
        # ITK knows its formats by lower case only
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, path.stem + suffix)
            shutil.copyfile(path, copy)
            try:
                return read_itk_transform(copy, own)
            except AtlasegError as error:
                raise type(error)(str(error).replace(str(copy), str(path))) from error
    if suffix in HDF5_SUFFIXES:
        count = _look_through_hdf5(path, own)
    else:
        records = _text_records(path) if suffix in TEXT_SUFFIXES else _matlab_records(path)
        _check_records(path, records)
        count = len(records) - (records[0].kind.name == COMPOSITE)
    try:
        # HDF5 and ITK print accounts of their own of what is wrong with such a file
        with ONE_AT_A_TIME, quiet() if suffix in HDF5_SUFFIXES else nullcontext():
            itk = sitk.ReadTransform(str(path))
            parts = parts_of(itk)
            problem = (
                next(filter(None, map(problem_of_part, parts)), None) if itk.GetDimension() == 3 else None
            )
    except (RuntimeError, UnicodeDecodeError) as error:  # names that are no text come back in ITK's report
        raise _unreadable(path, str(error)) from error
    _check_dimension(path, itk.GetDimension())
    if len(parts) != count:
        raise _without_order(path, count)
    if problem is not None:
        raise UnreadableFileError(f"{path}: {problem}")
    return Transform(itk)


def _check_records(path: Path, records: list[Record]) -> None:
    """Refuse what ITK would read in another way than it is meant, or not survive."""
    for record in records:
        _check_dimension(path, record.kind.dimension)
        if record.kind.name != COMPOSITE and (problem := problem_of(record)):
            raise UnreadableFileError(f"{path}: {problem}")
    composites = [n for n, record in enumerate(records) if record.kind.name == COMPOSITE]
    if composites not in ([], [0]):
        raise UnreadableFileError(
            f"{path}: a {COMPOSITE} stands at the beginning of a file, with its parts behind it; here one stands in "
            "another place"
        )
    if len(records) > 1 and not composites:
        raise _without_order(path, len(records))
    if composites and len(records) == 1:
        raise UnreadableFileError(f"{path}: a {COMPOSITE} without parts; is the file truncated?")


def _check_dimension(path: Path, dimension: int) -> None:
    if dimension != 3:
        raise OptionError(
            f"{path}: transforms of volumes are 3-D, this one is {dimension}-D; register volumes for it"
        )


def _without_order(path: Path, count: int) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path}: {count} transforms without a {COMPOSITE} at the beginning, so nothing says in which order they "
        "apply; write each to a separate file and name the files in order, or write them as a composite"
    )


def _text_records(path: Path) -> list[Record]:
    """Transforms of a text file.

    Raises:
        UnreadableFileError: lines that are not ITK's, or that are missing: ITK would read an identity without a word.
    """
    found: list[dict[str, str]] = []
    for number, raw in enumerate(path.read_text(encoding="latin-1").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, value = line.partition(":")
        if not colon or name not in ("Transform", "Parameters", "FixedParameters"):
            raise UnreadableFileError(
                f"{path}: not readable as an ITK transform (line {number}: expected 'Transform: ', 'Parameters: ' or "
                f"'FixedParameters: ', found {line[:40]!r})"
            )
        if name == "Transform":
            found.append({})
        elif not found or name in found[-1]:
            raise UnreadableFileError(f"{path}: line {number}: {name} of no transform; is it damaged?")
        found[-1][name] = value
    if not found:
        raise UnreadableFileError(
            f"{path}: not readable as an ITK transform (it holds none; is it truncated?)"
        )
    return [_text_record(path, entry) for entry in found]


def _text_record(path: Path, entry: dict[str, str]) -> Record:
    kind = _kind(path, entry["Transform"])
    missing = {"Parameters", "FixedParameters"} - entry.keys()
    if missing and kind.name != COMPOSITE:
        raise UnreadableFileError(
            f"{path}: the {kind.name} has no line of {' and '.join(sorted(missing))}; is it truncated?"
        )
    return Record(kind, *(_numbers(path, entry.get(name, "")) for name in ("Parameters", "FixedParameters")))


def _numbers(path: Path, text: str) -> npt.NDArray[np.float64]:
    try:
        if "_" in text:  # a number to Python, none to ITK
            raise ValueError("found _")
        return np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise UnreadableFileError(f"{path}: parameters are numbers ({error}); is it damaged?") from error


def _kind(path: Path, text: str) -> Kind:
    kind = Kind.parse(text)
    if kind is None:
        raise UnreadableFileError(
            f"{path}: not readable as an ITK transform ({text.strip()[:60]!r} is not a type of 3-D transform)"
        )
    return kind


def _matlab_records(path: Path) -> list[Record]:
    """Transforms of a MATLAB 4 file, in order: names may occur again, so they are read one by one."""
    found: list[tuple[str, npt.NDArray[np.float64]]] = []
    data = path.read_bytes()
    place = 0
    while place < len(data):
        start = data[place : place + 20]
        kind, rows, columns, imaginary, length = (
            np.frombuffer(start, "<i4") if len(start) == 20 else (-1,) * 5
        )
        # type MOPT: M 0 little-endian, O 0 or (ITK's) 1 stored by rows, P 0 double or 1 single precision, T 0 full
        single, kind = divmod(int(kind) % 100, 10) if 0 <= kind < 200 else (0, -1)
        if kind != 0 or single > 1 or imaginary or rows < 0 or columns < 0 or not 0 < length < 200:
            raise UnreadableFileError(
                f"{path}: not readable as an ITK transform (no MATLAB 4 file of numbers, or a damaged one)"
            )
        place += 20
        name = data[place : place + length].rstrip(b"\0").decode("latin-1")
        place += int(length)
        size = int(rows) * int(columns) * (4 if single else 8)
        if place + size > len(data):
            raise UnreadableFileError(f"{path}: the file ends within {name!r}; is it truncated?")
        values = np.frombuffer(data[place : place + size], "<f4" if single else "<f8")
        found.append((name, values.astype(np.float64)))
        place += size
    if len(found) % 2 or any(name != "fixed" for name, _ in found[1::2]):
        names = ", ".join(name for name, _ in found)
        raise UnreadableFileError(
            f"{path}: not readable as an ITK transform (expected parameters and then a matrix 'fixed', found {names})"
        )
    return [
        Record(_kind(path, name), values, fixed)
        for (name, values), (_, fixed) in zip(found[::2], found[1::2], strict=True)
    ]


def _look_through_hdf5(path: Path, own: bool) -> int:
    """Number of transforms of an HDF5 file, the composite itself not counted."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[: len(_HDF5_SIGNATURE)] != _HDF5_SIGNATURE:
            raise UnreadableFileError(
                f"{path}: not readable as an ITK transform (no HDF5 file, or a damaged one)"
            )
        count, place = 0, content.find(_HDF5_ENTRY)
        while place >= 0:
            count, place = count + 1, content.find(_HDF5_ENTRY, place + 1)
        composite = content.find(COMPOSITE.encode()) >= 0
    if count > 1 and not composite:
        raise _without_order(path, count)
    if not own:
        _try_in_another_process(path)
    return count


#: Says on standard output why ITK does not read a file. It ends at once, because HDF5 cannot close what is damaged.
_TRIAL = """
import os, signal, sys
if hasattr(signal, "alarm"):
    signal.alarm(int(sys.argv[2]))  # even if the process that waits for it is gone
import SimpleITK
try:
    SimpleITK.ReadTransform(sys.argv[1])
except RuntimeError as error:
    print(error, flush=True)
os._exit(0)
"""


def _try_in_another_process(path: Path) -> None:
    """Let another process read a file first: damaged HDF5 can end the process that reads it, or its grid can."""
    try:
        # -I: nothing of the current folder is imported
        tried = subprocess.run(  # noqa: S603 - our own program, the path is its argument
            [sys.executable, "-I", "-c", _TRIAL, str(path), str(_SECONDS_TO_TRY)],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_SECONDS_TO_TRY,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise UnreadableFileError(f"{path}: ITK breaks down over this file; it is damaged") from error
    if tried.stdout.strip():
        raise _unreadable(path, tried.stdout)


def _unreadable(path: Path, report: str) -> UnreadableFileError:
    return UnreadableFileError(f"{path}: not readable as an ITK transform ({_reason(report, path)})")


def _reason(text: str, path: Path) -> str:
    """The informative part of ITK's error message, which has many lines."""
    if "Could not create" in text or "factory" in text.lower() or "is not of type" in text:
        return "a type of transform that is not known here"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = next((line for line in lines if "ITK ERROR" in line or "Description" in line), lines[-1])
    if "failed to read" in text or telling.endswith("TransformIO"):
        return "damaged, or no transform"
    return " ".join(telling.split("): ")[-1].replace(str(path), path.name).split())
