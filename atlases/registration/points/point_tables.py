"""Tables of points (``.csv``): three numbers to a line, separated by commas, RAS+ mm."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atlaseg.atlases.registration.points.point_set import Landmarks, number_in, shown
from atlaseg.atlases.registration.transforms.frames import flip_points
from atlaseg.pipeline.errors import UnreadableFileError

__all__ = ["read_table", "table_text"]

#: Names of the three columns, in lower case, and whether they are LPS+.
_AXES = {("x", "y", "z"): False, ("r", "a", "s"): False, ("l", "p", "s"): True}
_LABELS = ("label", "name")
_WANTED = "x, y, z (RAS+ mm) on each line, separated by commas"


@dataclass(frozen=True)
class _Layout:
    """Columns of a table of points."""

    width: int
    axes: tuple[int, int, int] = (0, 1, 2)
    label: int | None = None
    lps: bool = False
    header: bool = True


def read_table(path: Path, text: str) -> Landmarks:
    """Points of a table, with or without a line that names its columns.

    Raises:
        UnreadableFileError: a line is not three numbers, or columns have names whose meaning is not known.
    """
    try:
        lines = list(enumerate(csv.reader(io.StringIO(text)), start=1))
    except csv.Error as error:
        raise UnreadableFileError(f"{path}: not a table of {_WANTED} ({error})") from error
    rows = [(n, row) for n, row in lines if any(cell.strip() for cell in row) and not row[0].startswith("#")]
    if not rows:
        return Landmarks(np.empty((0, 3)))
    layout = _layout(path, *rows[0])
    points: list[list[float]] = []
    labels: list[str] = []
    for number, row in rows[layout.header :]:
        if len(row) != layout.width:
            raise UnreadableFileError(f"{path}: line {number}: {_found(row, layout.width)}")
        values = [number_in(row[column]) for column in layout.axes]
        points.append([value for value in values if value is not None])
        if len(points[-1]) != 3:
            raise UnreadableFileError(
                f"{path}: line {number}: expected three finite numbers for each point, found {_shown(row)!r}"
            )
        labels.append("" if layout.label is None else row[layout.label].strip())
    found = np.array(points, np.float64).reshape(-1, 3)
    return Landmarks(flip_points(found) if layout.lps else found, tuple(labels) if any(labels) else ())


def _layout(path: Path, number: int, row: list[str]) -> _Layout:
    """Columns as the first line names them."""
    names = [cell.strip().lower() for cell in row]
    if all(number_in(cell) is not None for cell in row):
        if len(row) != 3:
            raise UnreadableFileError(f"{path}: line {number}: {_found(row, 3)}")
        return _Layout(3, header=False)
    if {"i", "j", "k"} <= set(names):
        raise UnreadableFileError(f"{path}: columns i, j, k are voxels of a scan; write {_WANTED}")
    for axes, lps in _AXES.items():
        if not all(names.count(axis) == 1 for axis in axes):
            continue
        others = [name for name in names if name not in axes]
        if "t" in others:
            raise UnreadableFileError(
                f"{path}: columns {shown(','.join(names))} are those of ANTs, whose points are LPS+ mm; name them "
                "l,p,s and leave out t"
            )
        labels = [names.index(name) for name in others if name in _LABELS]
        if len(others) > 1 or len(labels) != len(others):
            raise UnreadableFileError(
                f"{path}: the meaning of the columns {shown(','.join(others))} is not known; leave x,y,z and label"
            )
        first, second, third = (names.index(axis) for axis in axes)
        return _Layout(len(row), (first, second, third), labels[0] if labels else None, lps)
    raise UnreadableFileError(
        f"{path}: line {number}: expected three finite numbers, separated by commas, or the names x,y,z; "
        f"found {_shown(row)!r}"
    )


def _found(row: list[str], width: int) -> str:
    wanted = _WANTED if width == 3 else f"{width} values as in the first line"
    return f"expected {wanted}, found {len(row)} values: {_shown(row)}"


def _shown(row: list[str]) -> str:
    return shown(",".join(row))


def table_text(landmarks: Landmarks) -> str:
    """Table with a header, RAS+ mm, and labels where there are any."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["x", "y", "z", *(["label"] if landmarks.labels else [])])
    for number, point in enumerate(landmarks.points.tolist()):
        label = [landmarks.labels[number]] if landmarks.labels else []
        writer.writerow([*map(repr, point), *label])
    return text.getvalue()
