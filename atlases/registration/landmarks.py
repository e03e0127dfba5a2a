"""Landmark files: 3D Slicer's markups and plain tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlases.registration.frames import flip_points
from pipeline.errors import GeometryError, MissingFileError, OptionError, UnreadableFileError
from pipeline.files import replacing

__all__ = ["LANDMARK_SUFFIXES", "is_landmark_file", "read_landmarks", "write_landmarks"]

#: `.mrk.json` and `.fcsv`: https://slicer.readthedocs.io/en/latest/developer_guide/modules/markups.html
LANDMARK_SUFFIXES = (".mrk.json", ".fcsv", ".csv")
FRAMES = {"RAS": 1.0, "LPS": -1.0, "0": 1.0, "1": -1.0}


def is_landmark_file(path: Path) -> bool:
    """Whether a file holds points, by its name.

    >>> is_landmark_file(Path("brain.mrk.json")), is_landmark_file(Path("brain.nii.gz"))
    (True, False)
    """
    return path.name.lower().endswith(LANDMARK_SUFFIXES)


def read_landmarks(path: Path) -> npt.NDArray[np.float64]:
    """Points of one file, in its order.

    Args:
        path: 3D Slicer's ``.mrk.json`` (all control points of its first markup) or ``.fcsv``, both in the coordinate
            system that the file names; or ``.csv``, three numbers to a line, RAS+ mm, with or without a header.

    Returns:
        ``(n, 3)``, RAS+ mm.

    Raises:
        MissingFileError: there is no such file.
        OptionError: the suffix is none of landmarks.
        UnreadableFileError: the file holds no points, or something else.
    """
    suffix = _suffix(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{path}: not a text file, so no landmarks") from error
    points = {".mrk.json": _from_markup, ".fcsv": _from_fcsv, ".csv": _from_table}[suffix](path, text)
    if not len(points) or not np.isfinite(points).all():
        raise UnreadableFileError(
            f"{path}: expected points of three finite numbers, found {len(points)} points"
        )
    return points


def write_landmarks(path: Path, points: npt.NDArray[np.float64]) -> None:
    """Write points to ``.mrk.json``, ``.fcsv`` (both LPS, as 3D Slicer does since 4.11) or ``.csv`` (RAS, a header).

    Args:
        path: written beside its place and renamed into it.
        points: ``(n, 3)``, RAS+ mm; all digits are kept.

    Raises:
        OptionError: the suffix is none of landmarks.
        GeometryError: not ``(n, 3)``.
    """
    suffix = _suffix(path)
    if points.ndim != 2 or points.shape[1] != 3:
        raise GeometryError(f"{path}: landmarks must be (n, 3), found shape {points.shape}")
    text = {".mrk.json": _markup, ".fcsv": _fcsv, ".csv": _table}[suffix](np.asarray(points, np.float64))
    with replacing(path, suffix) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _suffix(path: Path) -> str:
    for suffix in LANDMARK_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise OptionError(
        f"{path}: not a landmark file by its name; landmarks end with {', '.join(LANDMARK_SUFFIXES)}"
    )


def _in_ras(path: Path, points: npt.NDArray[np.float64], frame: str) -> npt.NDArray[np.float64]:
    if frame not in FRAMES:
        raise UnreadableFileError(f"{path}: expected coordinate system RAS or LPS, found {frame!r}")
    return points if FRAMES[frame] > 0 else flip_points(points)


def _points(path: Path, rows: list[Any]) -> npt.NDArray[np.float64]:
    try:
        return np.array([[float(value) for value in row] for row in rows], np.float64).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise UnreadableFileError(f"{path}: expected three numbers for each point ({error})") from error


def _from_markup(path: Path, text: str) -> npt.NDArray[np.float64]:
    try:
        markup = json.loads(text)["markups"][0]
        rows = [point["position"] for point in markup["controlPoints"]]
        frame = str(markup.get("coordinateSystem", "LPS")).upper()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFileError(f"{path}: not a markups file of 3D Slicer") from error
    return _in_ras(path, _points(path, rows), frame)


def _from_fcsv(path: Path, text: str) -> npt.NDArray[np.float64]:
    frame, rows = "RAS", []
    for line in text.splitlines():
        if line.startswith("#"):
            name, _, value = line[1:].partition("=")
            # versions of 3D Slicer before 4.11 wrote 0 for RAS and 1 for LPS
            frame = value.strip().upper() if name.strip() == "CoordinateSystem" else frame
        elif line.strip():
            rows.append(next(csv.reader([line]))[1:4])
    return _in_ras(path, _points(path, rows), frame)


def _from_table(path: Path, text: str) -> npt.NDArray[np.float64]:
    rows = [row for row in csv.reader(text.splitlines()) if row and not row[0].startswith("#")]
    if rows and not _is_number(rows[0][0]):
        rows = rows[1:]
    if wrong := next((row for row in rows if len(row) != 3), None):
        raise UnreadableFileError(
            f"{path}: expected x, y, z (RAS+ mm) on each line, found {len(wrong)} values: {','.join(wrong)[:60]}"
        )
    return _points(path, rows)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _markup(points: npt.NDArray[np.float64]) -> str:
    schema = (
        "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
        "markups-schema-v1.0.3.json#"
    )
    control = [
        {"id": str(n), "label": f"F-{n}", "position": point}
        for n, point in enumerate(flip_points(points).tolist(), start=1)
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": control}
    return json.dumps({"@schema": schema, "markups": [markup]}, indent=1) + "\n"


def _fcsv(points: npt.NDArray[np.float64]) -> str:
    lines = [
        "# Markups fiducial file version = 4.11",
        "# CoordinateSystem = LPS",
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID",
    ]
    for n, (x, y, z) in enumerate(flip_points(points).tolist(), start=1):
        lines.append(f"{n},{x!r},{y!r},{z!r},0,0,0,1,1,1,0,F-{n},,")
    return "\n".join(lines) + "\n"


def _table(points: npt.NDArray[np.float64]) -> str:
    return "x,y,z\n" + "".join(f"{x!r},{y!r},{z!r}\n" for x, y, z in points.tolist())
