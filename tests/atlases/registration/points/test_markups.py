from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlaseg.atlases.registration.points.landmarks import read_landmark_file
from atlaseg.pipeline.errors import UnreadableFileError

HEAD = (
    "# Markups fiducial file version = 4.11\n# CoordinateSystem = {}\n"
    "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
)
ROW = "1,1.5,2,3,0,0,0,1,1,1,0,F-1,a note,\n"


def read(folder: Path, name: str, text: str):
    (folder / name).write_text(text, encoding="utf-8")
    return read_landmark_file(folder / name)


def markup(points: list[Any], **more: Any) -> dict[str, Any]:
    return {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points, **more}


def markups(*lists: dict[str, Any]) -> str:
    return json.dumps({"markups": lists})


@pytest.mark.parametrize(
    ("frame", "expected"),
    [("LPS", [-1.5, -2, 3]), ("RAS", [1.5, 2, 3]), ("0", [1.5, 2, 3]), ("1", [-1.5, -2, 3])],
)
def test_frames_of_fcsv(tmp_path: Path, frame: str, expected: list[float]):
    found = read(tmp_path, "a.fcsv", HEAD.format(frame) + ROW)
    assert found.points.tolist() == [expected]
    assert (found.labels, found.descriptions) == (("F-1",), ("a note",))


def test_columns_of_fcsv_go_by_their_names(tmp_path: Path):
    # of the fiducial lists of 3D Slicer 3
    old = "# Fiducial List file /tmp/F.fcsv\n# columns = label,x,y,z,sel,vis\nAC,1,2,3,1,1\n"
    found = read(tmp_path, "a.fcsv", old)
    assert (found.points.tolist(), found.labels) == ([[1, 2, 3]], ("AC",))
    turned = read(tmp_path, "a.fcsv", "# columns = z,y,x\n3,2,1\n")
    assert turned.points.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD.format("2") + ROW, "found IJK"),
        (HEAD.format("IJK") + ROW, "found IJK"),
        (HEAD.format("XYZ") + ROW, "RAS or LPS, found 'XYZ'"),
        (HEAD.format("RAS") + "1,10,20\n2,30,40\n3,50,60\n", "line 4: expected three finite numbers"),
        (HEAD.format("RAS") + ROW.replace("1.5", "nan"), "three finite numbers"),
        (HEAD.format("RAS") + ROW.replace("1.5", "\u22121.5"), "three finite numbers"),
        (HEAD.format("RAS"), "found 0 points"),
        ("# columns = id,r,a,s\n1,2,3,4\n", "expected columns x, y, z"),
    ],
)
def test_fcsv_that_is_not_understood(tmp_path: Path, text: str, message: str):
    with pytest.raises(UnreadableFileError) as caught:
        read(tmp_path, "a.fcsv", text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("unit", "scale"), [("um", 1e-3), ("mm", 1), ("cm", 10), ("m", 1000), (["mm", "UCUM", "millimeter"], 1)]
)
def test_units_are_honoured(tmp_path: Path, unit: Any, scale: float):
    found = read(
        tmp_path, "a.mrk.json", markups(markup([{"position": [1000, 2000, 3000]}], coordinateUnits=unit))
    )
    assert np.allclose(found.points, np.array([[-1000, -2000, 3000]]) * scale)


def test_all_lists_are_read(tmp_path: Path):
    text = markups(
        markup([{"position": [1, 1, 1], "label": "A"}], coordinateSystem="RAS"),
        markup([{"position": [2, 2, 2]}, {"position": [3, 3, 3]}], type="Curve"),
    )
    found = read(tmp_path, "a.mrk.json", text)
    assert found.points.tolist() == [[1, 1, 1], [-2, -2, 2], [-3, -3, 3]]
    assert found.labels == ("A", "", "")
    assert found.groups == (("Fiducial", 1), ("Curve", 2))


DEFINED = {"position": [1, 2, 3], "positionStatus": "defined"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (markups(markup([{"position": [1, 2]}] * 3)), "point 1: expected three finite numbers"),
        (
            markups(markup([DEFINED, {"position": [1, 2, 3, 4, 5, 6]}])),
            "point 2: expected three finite numbers",
        ),
        (
            markups(markup([DEFINED, {"label": "AC", "position": [0, 0, 0], "positionStatus": "undefined"}])),
            "point 2 (AC) is undefined, it has no place",
        ),
        (markups(markup([{"position": None, "positionStatus": "undefined"}])), "point 1 is undefined"),
        (markups(markup([{"position": [0, 0, 0], "positionStatus": "preview"}])), "point 1 is preview"),
        (
            markups(markup([{"position": None}])),
            "point 1: expected three finite numbers for each point, found null",
        ),
        (markups(markup([{"position": [1, 2, "3"]}])), "three finite numbers"),
        (markups(markup([{"position": [1, 2, True]}])), "three finite numbers"),
        (markups(markup([{"position": [1, 2, 10**400]}])), "three finite numbers"),
        (markups(markup([{"position": [1, 2, float("nan")]}])), "three finite numbers"),
        (markups(markup([{}])), "three finite numbers"),
        (markups(markup([[1, 2, 3]])), "not a control point"),
        (markups(markup([DEFINED], coordinateUnits="px")), "coordinate units mm, um, cm, m, found 'px'"),
        (markups(markup([DEFINED], coordinateUnits=None)), "coordinate units"),
        (markups(markup([DEFINED], coordinateSystem="IJK")), "found IJK"),
        (markups(markup([DEFINED], type="Plane")), "a markup of kind 'Plane' is more than its points"),
        (markups(markup([DEFINED]), markup([DEFINED], type="ROI")), "a markup of kind 'ROI'"),
        (markups(), "found 0 points"),
        ("[" * 100_000, "not a markups file"),
        ('{"markups": {"a": 1}}', "not a markups file"),
        ('{"markups": [{"controlPoints": 3}]}', "is more than its points"),
    ],
)
def test_markups_that_are_not_understood(tmp_path: Path, text: str, message: str):
    with pytest.raises(UnreadableFileError) as caught:
        read(tmp_path, "a.mrk.json", text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'a.mrk.json'}: ")
    assert "\n" not in str(caught.value)
