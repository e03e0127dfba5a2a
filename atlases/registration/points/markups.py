"""Markups of 3D Slicer: ``.mrk.json`` and the older ``.fcsv``."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.points.point_set import Landmarks, number_in, shown
from atlaseg.atlases.registration.transforms.frames import flip_points
from atlaseg.pipeline.errors import UnreadableFileError

__all__ = ["fcsv_text", "markups_text", "read_fcsv", "read_markups"]

#: By their name, and by the number that versions of 3D Slicer before 4.11 wrote (2 is IJK, voxels of a scan).
_FRAMES = {"RAS": 1.0, "LPS": -1.0, "0": 1.0, "1": -1.0}
#: Millimetres in a unit, by its UCUM code.
_UNITS = {"mm": 1.0, "um": 1e-3, "cm": 10.0, "m": 1000.0}
#: Kinds that are their points; a plane or a region of interest has a place and size besides.
_KINDS = ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_COLUMNS = (
    "id",
    "x",
    "y",
    "z",
    "ow",
    "ox",
    "oy",
    "oz",
    "vis",
    "sel",
    "lock",
    "label",
    "desc",
    "associatedNodeID",
)


def read_markups(path: Path, text: str) -> Landmarks:
    """Control points of all lists of a ``.mrk.json``, in the frame and unit that each names.

    Raises:
        UnreadableFileError: it is none, a point is not placed or has not three coordinates, or the frame, the unit or
            the kind of a list is not known.
    """
    try:
        lists = json.loads(text)["markups"]
        names = [(item.get("type", "Fiducial"), item["controlPoints"]) for item in lists]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFileError(f"{path}: not a markups file of 3D Slicer") from error
    points: list[npt.NDArray[np.float64]] = [np.empty((0, 3))]
    labels: list[str] = []
    descriptions: list[str] = []
    for item, (kind, controls) in zip(lists, names, strict=True):
        if kind not in _KINDS or not isinstance(controls, list):
            raise UnreadableFileError(
                f"{path}: a markup of kind {str(kind)[:40]!r} is more than its points; save these as a point list"
            )
        for number, control in enumerate(controls, start=1):
            _check_control(path, number, control)
            labels.append(str(control.get("label", "")))
            descriptions.append(str(control.get("description", "")))
        values = np.array([control["position"] for control in controls], np.float64).reshape(-1, 3)
        points.append(_in_ras(path, values * _unit(path, item), str(item.get("coordinateSystem", "LPS"))))
    return Landmarks(
        np.concatenate(points),
        tuple(labels) if any(labels) else (),
        tuple(descriptions) if any(descriptions) else (),
        tuple((str(kind), len(controls)) for kind, controls in names),
    )


def _check_control(path: Path, number: int, control: Any) -> None:
    """Refuse a control point that has no place in space; 3D Slicer keeps such ones at 0, 0, 0."""
    if not isinstance(control, dict):
        raise UnreadableFileError(f"{path}: point {number}: not a control point of 3D Slicer")
    label = f" ({shown(str(control['label']))})" if control.get("label") else ""
    status = control.get("positionStatus", "defined")
    if status != "defined":
        raise UnreadableFileError(
            f"{path}: point {number}{label} is {shown(str(status))}, it has no place; place it or delete it in "
            "3D Slicer"
        )
    position = control.get("position")
    if not isinstance(position, list) or len(position) != 3 or not all(map(_is_number, position)):
        raise UnreadableFileError(
            f"{path}: point {number}{label}: expected three finite numbers for each point, found "
            f"{json.dumps(position)[:60]}"
        )


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _unit(path: Path, item: dict[str, Any]) -> float:
    """Millimetres in the unit of a list: a UCUM code, alone or with its scheme and meaning."""
    unit = item.get("coordinateUnits", "mm")
    code = unit[0] if isinstance(unit, list) and unit else unit
    if not isinstance(code, str) or code not in _UNITS:
        raise UnreadableFileError(
            f"{path}: expected coordinate units {', '.join(_UNITS)}, found {str(unit)[:40]!r}"
        )
    return _UNITS[code]


def _in_ras(path: Path, points: npt.NDArray[np.float64], frame: str) -> npt.NDArray[np.float64]:
    name = frame.strip().upper()
    if name in ("IJK", "2"):
        raise UnreadableFileError(
            f"{path}: expected coordinate system RAS or LPS, found IJK: voxels of a scan that the file does not name"
        )
    if name not in _FRAMES:
        raise UnreadableFileError(f"{path}: expected coordinate system RAS or LPS, found {frame[:40]!r}")
    return points if _FRAMES[name] > 0 else flip_points(points)


def read_fcsv(path: Path, text: str) -> Landmarks:
    """Points of a ``.fcsv``; columns by the names in its head, RAS+ where it names no coordinate system.

    Raises:
        UnreadableFileError: a line has not three coordinates, or the frame is not known.
    """
    frame, columns = "RAS", list(_COLUMNS)
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            name, _, value = line[1:].partition("=")
            if name.strip() == "CoordinateSystem":
                frame = value
            elif name.strip() == "columns":
                columns = [column.strip() for column in value.split(",")]
        elif line.strip():
            lines.append((number, line))
    if not {"x", "y", "z"} <= set(columns):
        raise UnreadableFileError(f"{path}: expected columns x, y, z, found {shown(','.join(columns))}")
    rows = [_row(path, number, line, columns) for number, line in lines]
    labels, descriptions = ([row.get(name, "") for row in rows] for name in ("label", "desc"))
    points = np.array([[number_in(row[axis]) for axis in "xyz"] for row in rows], np.float64).reshape(-1, 3)
    return Landmarks(
        _in_ras(path, points, frame.strip()),
        tuple(labels) if any(labels) else (),
        tuple(descriptions) if any(descriptions) else (),
    )


def _row(path: Path, number: int, line: str, columns: list[str]) -> dict[str, str]:
    """Values of one line by the names of their columns; those at the end may be missing."""
    try:
        values = next(csv.reader([line]))
    except csv.Error as error:
        raise UnreadableFileError(f"{path}: line {number}: not a line of a table ({error})") from error
    row = dict(zip(columns, values, strict=False))
    if any(number_in(row.get(axis, "")) is None for axis in "xyz"):
        raise UnreadableFileError(
            f"{path}: line {number}: expected three finite numbers for each point (columns "
            f"{shown(','.join(columns[:4]))}), found {line[:60]!r}"
        )
    return row


def markups_text(landmarks: Landmarks) -> str:
    """``.mrk.json`` of the same lists, LPS+ mm."""
    labels, descriptions = _texts(landmarks)
    places = flip_points(landmarks.points).tolist()
    lists, first = [], 0
    for kind, count in landmarks.groups or (("Fiducial", len(places)),):
        control = [
            {"id": str(n - first + 1), "label": labels[n], "position": places[n], "positionStatus": "defined"}
            | ({"description": descriptions[n]} if descriptions[n] else {})
            for n in range(first, first + count)
        ]
        first += count
        lists.append(
            {"type": kind, "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": control}
        )
    return json.dumps({"@schema": _SCHEMA, "markups": lists}, indent=1) + "\n"


def fcsv_text(landmarks: Landmarks) -> str:
    """``.fcsv`` of all points, LPS+ mm."""
    text = io.StringIO()
    text.write("# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n")
    text.write(f"# columns = {','.join(_COLUMNS)}\n")
    writer = csv.writer(text, lineterminator="\n")
    places = flip_points(landmarks.points).tolist()
    for number, (point, label, description) in enumerate(
        zip(places, *_texts(landmarks), strict=True), start=1
    ):
        writer.writerow([number, *map(repr, point), 0, 0, 0, 1, 1, 1, 0, label, description, ""])
    return text.getvalue()


def _texts(landmarks: Landmarks) -> tuple[list[str], list[str]]:
    """Label and description of each point, on one line each."""
    count = len(landmarks.points)
    labels = landmarks.labels or tuple(f"F-{n + 1}" for n in range(count))
    descriptions = landmarks.descriptions or ("",) * count
    return [" ".join(text.split()) for text in labels], [" ".join(text.split()) for text in descriptions]
