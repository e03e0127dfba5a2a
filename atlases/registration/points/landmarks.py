"""Landmark files: 3D Slicer's markups and plain tables; points are converted to RAS+ mm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.points.markups import fcsv_text, markups_text, read_fcsv, read_markups
from atlaseg.atlases.registration.points.point_set import Landmarks
from atlaseg.atlases.registration.points.point_tables import read_table, table_text
from atlaseg.pipeline.errors import GeometryError, MissingFileError, OptionError, UnreadableFileError
from atlaseg.pipeline.io.files import replacing

__all__ = [
    "LANDMARK_SUFFIXES",
    "Landmarks",
    "check_landmark_name",
    "is_landmark_file",
    "landmarks_name",
    "read_landmark_file",
    "read_landmarks",
    "write_landmarks",
]

#: `.mrk.json` and `.fcsv`: https://slicer.readthedocs.io/en/latest/developer_guide/modules/markups.html
LANDMARK_SUFFIXES = (".mrk.json", ".fcsv", ".csv")


def is_landmark_file(path: Path) -> bool:
    """Whether a file holds points, by its name.

    >>> is_landmark_file(Path("brain.mrk.json")), is_landmark_file(Path("brain.nii.gz"))
    (True, False)
    """
    return path.name.lower().endswith(LANDMARK_SUFFIXES)


def landmarks_name(path: Path) -> str:
    """Name of the case that a file of landmarks belongs to.

    >>> landmarks_name(Path("landmarks/patient.01.mrk.json"))
    'patient.01'
    """
    for suffix in LANDMARK_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def read_landmarks(path: Path) -> npt.NDArray[np.float64]:
    """Points of one file, ``(n, 3)`` RAS+ mm, in its order; see :func:`read_landmark_file`."""
    return read_landmark_file(path).points


def read_landmark_file(path: Path) -> Landmarks:
    """Points of one file, in its order.

    Args:
        path: 3D Slicer's ``.mrk.json`` (the control points of all its lists) or ``.fcsv``, both in the coordinate
            system and unit that the file names; or ``.csv``, three numbers to a line, RAS+ mm, without a header or with
            one that names the columns ``x,y,z`` (or ``r,a,s``; ``l,p,s`` is LPS+) and perhaps ``label``.

    Raises:
        MissingFileError: there is no such file.
        OptionError: the suffix is not that of a landmark file.
        UnreadableFileError: the file holds no points, or something else: points of two or four coordinates, that are
            not placed, in voxels, or in a frame or unit that is not known.
    """
    suffix = check_landmark_name(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{path}: not a text file, so no landmarks") from error
    found = {".mrk.json": read_markups, ".fcsv": read_fcsv, ".csv": read_table}[suffix](path, text)
    if not len(found.points):
        raise UnreadableFileError(f"{path}: expected points of three finite numbers, found 0 points")
    return found


def write_landmarks(path: Path, landmarks: Landmarks | npt.NDArray[np.float64]) -> None:
    """Write points to ``.mrk.json``, ``.fcsv`` (both LPS, as 3D Slicer does since 4.11) or ``.csv`` (RAS, a header).

    Labels are kept in all, descriptions in markups, lists and their kinds in ``.mrk.json``.

    Args:
        path: written beside its place and renamed into it.
        landmarks: points ``(n, 3)``, RAS+ mm, alone or with what a file said of them; all digits are kept.

    Raises:
        OptionError: the suffix is not that of a landmark file.
        GeometryError: not ``(n, 3)``.
    """
    suffix = check_landmark_name(path)
    if not isinstance(landmarks, Landmarks):
        landmarks = Landmarks(np.asarray(landmarks, np.float64))
    if landmarks.points.ndim != 2 or landmarks.points.shape[1] != 3:
        raise GeometryError(f"{path}: landmarks must be (n, 3), found shape {landmarks.points.shape}")
    text = {".mrk.json": markups_text, ".fcsv": fcsv_text, ".csv": table_text}[suffix](landmarks)
    with replacing(path, suffix) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_landmark_name(path: Path) -> str:
    """Suffix of a landmark file.

    Raises:
        OptionError: it is none.
    """
    for suffix in LANDMARK_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise OptionError(
        f"{path}: not a landmark file by its name; landmarks end with {', '.join(LANDMARK_SUFFIXES)}"
    )
