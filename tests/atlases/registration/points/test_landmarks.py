from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from atlaseg.atlases.registration.points.landmarks import read_landmark_file, read_landmarks, write_landmarks
from atlaseg.atlases.registration.points.point_set import Landmarks
from atlaseg.pipeline.errors import GeometryError, MissingFileError, OptionError, UnreadableFileError

POINTS = np.array([[1.5, -2.25, 30.1], [0, 1e-7, -3], [1 / 3, 2, 3]])


@pytest.mark.parametrize("name", ["a.csv", "a.fcsv", "a.mrk.json"])
def test_all_digits_are_kept(tmp_path: Path, name: str):
    write_landmarks(tmp_path / name, POINTS)
    assert np.array_equal(read_landmarks(tmp_path / name), POINTS)
    assert [f.name for f in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "text", ["x,y,z\n1,2,3\n\n4,5,6\n", "1, 2, 3\n4,5,6", "\ufeff# mm\nR,A,S\r\n1,2,3\r\n4,5,6\r\n"]
)
def test_tables(tmp_path: Path, text: str):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    assert read_landmarks(tmp_path / "a.csv").tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        ("# CoordinateSystem = LPS\n", -1),
        ("# CoordinateSystem = RAS\n", 1),
        ("# CoordinateSystem = 0\n", 1),
        ("", 1),
    ],
)
def test_fiducials_in_both_frames(tmp_path: Path, line: str, sign: int):
    text = f'# Markups fiducial file version = 4.10\n{line}# columns = id,x,y,z,ow\nvtk_0,1,2,3,0,0,0,1,1,1,0,"F,1",,\n'
    (tmp_path / "a.fcsv").write_text(text)
    assert read_landmarks(tmp_path / "a.fcsv").tolist() == [[sign * 1.0, sign * 2.0, 3.0]]


@pytest.mark.parametrize("frame", ["RAS", "LPS", None])
def test_markups_in_both_frames(tmp_path: Path, frame: str | None):
    markup = {"type": "Fiducial", "controlPoints": [{"position": [1, 2, 3]}, {"position": [4, 5, 6]}]}
    if frame:
        markup["coordinateSystem"] = frame
    (tmp_path / "a.mrk.json").write_text(json.dumps({"markups": [markup]}))
    expected = np.array([[1.0, 2, 3], [4, 5, 6]]) * ((1, 1, 1) if frame == "RAS" else (-1, -1, 1))
    assert np.array_equal(read_landmarks(tmp_path / "a.mrk.json"), expected)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "found 0 points"),
        ("a.csv", "1,2\n", "found 2 values: 1,2"),
        ("a.csv", "1,2,3\n4,x,6\n", "line 2: expected three finite numbers for each point"),
        ("a.csv", "1,2,nan\n", "three finite numbers"),
        ("a.csv", "\x00\xff", "not a text file"),
        ("a.fcsv", "0,1,2\n", "three finite numbers"),
        ("a.fcsv", "# CoordinateSystem = XYZ\n0,1,2,3\n", "RAS or LPS, found 'XYZ'"),
        ("a.mrk.json", "{", "not a markups file"),
        ("a.mrk.json", "[]", "not a markups file"),
        ("a.mrk.json", '{"markups": [{"controlPoints": []}]}', "found 0 points"),
        ("a.mrk.json", '{"markups": [{"controlPoints": [{"position": [1, 2]}]}]}', "three finite numbers"),
    ],
)
def test_files_that_hold_no_points(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(UnreadableFileError, match=message) as caught:
        read_landmarks(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_other_refusals(tmp_path: Path):
    with pytest.raises(MissingFileError):
        read_landmarks(tmp_path / "a.csv")
    with pytest.raises(OptionError, match=r"landmarks end with \.mrk\.json, \.fcsv, \.csv"):
        read_landmarks(tmp_path / "a.vtk")
    with pytest.raises(GeometryError, match=r"\(n, 3\), found shape \(3,\)"):
        write_landmarks(tmp_path / "a.csv", POINTS[0])


def test_labels_descriptions_and_lists_are_kept(tmp_path: Path):
    landmarks = Landmarks(
        POINTS, ("AC", "PC, posterior", "x"), ("", "a note", ""), (("Line", 2), ("Fiducial", 1))
    )
    write_landmarks(tmp_path / "a.mrk.json", landmarks)
    found = read_landmark_file(tmp_path / "a.mrk.json")
    assert np.array_equal(found.points, POINTS)
    assert (found.labels, found.descriptions, found.groups) == (
        landmarks.labels,
        landmarks.descriptions,
        landmarks.groups,
    )
    lists = json.loads((tmp_path / "a.mrk.json").read_text())["markups"]
    assert [(m["type"], m["coordinateSystem"], m["coordinateUnits"]) for m in lists] == [
        ("Line", "LPS", "mm"),
        ("Fiducial", "LPS", "mm"),
    ]
    assert lists[1]["controlPoints"][0]["position"] == [-POINTS[2, 0], -POINTS[2, 1], POINTS[2, 2]]
    for name in ("a.fcsv", "a.csv"):
        write_landmarks(tmp_path / name, landmarks)
        assert np.array_equal(read_landmarks(tmp_path / name), POINTS)
        assert read_landmark_file(tmp_path / name).labels == landmarks.labels
    assert read_landmark_file(tmp_path / "a.fcsv").descriptions == landmarks.descriptions
