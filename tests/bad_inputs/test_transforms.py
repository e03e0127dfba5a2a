"""Transforms, points and masks that are none: `warp` and `register` refuse them in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.bad_inputs.conftest import Good, Judge

pytestmark = pytest.mark.slow

HEAD = "#Insight Transform File V1.0\n#Transform 0\nTransform: "
AFFINE = HEAD + "AffineTransform_double_3_3\nParameters: {}\nFixedParameters: 0 0 0\n"
GRID = "FixedParameters: {}\n"
TRANSFORMS = {
    "empty": "",
    "text": "text",
    "binary": "\x00\x01\x02",
    "no-transform": "#Insight Transform File V1.0\n",
    "unknown": HEAD + "MagicTransform_double_3_3\nParameters: 1\nFixedParameters: 0\n",
    "plane": HEAD + "AffineTransform_double_2_2\nParameters: 1 0 0 1 0 0\nFixedParameters: 0 0\n",
    "too-few": AFFINE.format("1 0 0 0 1 0 0 0 1"),
    "too-many": AFFINE.format(" ".join("1" * 20)),
    "words": AFFINE.format("a b c 0 1 0 0 0 1 0 0 0"),
    "nan": AFFINE.format("nan 0 0 0 1 0 0 0 1 0 0 0"),
    "infinite": AFFINE.format("1 0 0 0 1 0 0 0 1 inf 0 0"),
    "singular": AFFINE.format("1 0 0 0 1 0 0 0 0 0 0 0"),
    "zero": AFFINE.format("0 " * 12),
    "spline-without-grid": HEAD + "BSplineTransform_double_3_3\nParameters: 0 0 0\nFixedParameters: \n",
    "spline-malformed": HEAD
    + "BSplineTransform_double_3_3\nParameters: 0 0 0\n"
    + GRID.format("5 5 5 0 0 0 1 1 1"),
    "spline-huge": HEAD
    + "BSplineTransform_double_3_3\nParameters: 0 0 0\n"
    + GRID.format("99999 99999 99999 0 0 0 1 1 1 1 0 0 0 1 0 0 0 1"),
    "two-without-composite": AFFINE.format("1 0 0 0 1 0 0 0 1 0 0 0")
    + AFFINE.format("1 0 0 0 1 0 0 0 1 5 0 0").replace("#Insight Transform File V1.0\n", ""),
}


@pytest.mark.parametrize("ending", [".tfm", ".txt", ".h5", ".mat", ".nii.gz", ".xyz"])
@pytest.mark.parametrize("text", TRANSFORMS)
def test_transform(text: str, ending: str, good: Good, judge: Judge) -> None:
    path = judge.folder / f"t{ending}"
    path.write_bytes(TRANSFORMS[text].encode("latin-1"))
    words = ("--reference", good.scan, "--out", judge.folder / "o.nii.gz")
    judge.refused("warp", good.scan, "--transform", path, *words, code=2, says=path.name)


def _markup(**changes: object) -> str:
    points = [{"id": "1", "position": [1, 2, 3]}]
    return json.dumps({"markups": [{"coordinateSystem": "LPS", "controlPoints": points} | changes]})


POINTS = {
    "empty.csv": "",
    "text.csv": "text\n",
    "two.csv": "1,2\n3,4\n",
    "words.csv": "x,y,z\na,b,c\n",
    "nan.csv": "x,y,z\n1,nan,3\n",
    "infinite.csv": "x,y,z\n1,inf,3\n",
    "uneven.csv": "x,y,z\n1,2,3\n4,5\n",
    "binary.csv": "\x00\x01\xff",
    "header.csv": "x,y,z\n",
    "empty.fcsv": "",
    "frame.fcsv": "# CoordinateSystem = XYZ\n1,2,3,4,0,0,0,1,1,1,0,F-1,,\n",
    "short.fcsv": "# CoordinateSystem = LPS\n1,2\n",
    "words.fcsv": "# CoordinateSystem = LPS\n1,a,b,c,0,0,0,1,1,1,0,F-1,,\n",
    "empty.mrk.json": "",
    "deep.mrk.json": "[" * 100_000,
    "list.mrk.json": "[]",
    "none.mrk.json": '{"markups": []}',
    "number.mrk.json": '{"markups": 3}',
    "points.mrk.json": _markup(controlPoints=3),
    "null.mrk.json": _markup(controlPoints=[{"position": None}]),
    "two.mrk.json": _markup(controlPoints=[{"position": [1, 2]}]),
    "words.mrk.json": _markup(controlPoints=[{"position": ["a", "b", "c"]}]),
    "frame.mrk.json": _markup(coordinateSystem="XYZ"),
}


@pytest.mark.parametrize("name", POINTS)
def test_points(name: str, good: Good, judge: Judge) -> None:
    path = judge.folder / name
    path.write_bytes(POINTS[name].encode("latin-1"))
    out = judge.folder / f"out{''.join(path.suffixes)}"
    judge.refused("warp", path, "--transform", good.transform, "--out", out, code=2, says=name)
    words = ("--transform", "tps", "--fixed-landmarks", path, "--moving-landmarks", good.points)
    judge.refused("register", good.scan, good.scan, *words, "--out", judge.out, code=2)
