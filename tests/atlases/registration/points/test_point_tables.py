from __future__ import annotations

from pathlib import Path

import pytest

from atlaseg.atlases.registration.points.point_tables import read_table
from atlaseg.pipeline.errors import UnreadableFileError


@pytest.mark.parametrize(
    ("text", "points", "labels"),
    [
        ("1,2,3\n4,5,6\n", [[1, 2, 3], [4, 5, 6]], ()),
        ("x,y,z\n1,2,3\n", [[1, 2, 3]], ()),
        ("R, A, S\n1,2,3\n", [[1, 2, 3]], ()),
        ("l,p,s\n1,2,3\n", [[-1, -2, 3]], ()),
        ("x,y,z,label\n1,2,3,AC\n4,5,6,\n", [[1, 2, 3], [4, 5, 6]], ("AC", "")),
        ('name,z,y,x\n"A, C",3,2,1\n', [[1, 2, 3]], ("A, C",)),
        ('"1","2","-.5e1"\n', [[1, 2, -5]], ()),
    ],
)
def test_tables(text: str, points: list, labels: tuple[str, ...]):
    found = read_table(Path("a.csv"), text)
    assert found.points.tolist() == points
    assert found.labels == labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,z,t,label\n1,2,3,0,1\n", "columns x,y,z,t,label are those of ANTs, whose points are LPS+ mm"),
        ("x,y,z,t\n1,2,3,0\n", "those of ANTs"),
        ("i,j,k\n1,2,3\n", "voxels of a scan"),
        ("x,y,z,weight\n1,2,3,0\n", "the meaning of the columns weight is not known"),
        ("x,x,y,z\n1,1,2,3\n", "line 1: expected three finite numbers"),
        ("1;2;3\n4;5;6\n", "separated by commas"),
        ("1 2 3\n4 5 6\n", "separated by commas"),
        ("x\ty\tz\n1\t2\t3\n", "separated by commas"),
        ("F1,1,2\n3,4,5\n6,7,8\n", "line 1: expected three finite numbers"),
        ("\u22121.5,2,3\n4,5,6\n", "line 1: expected three finite numbers"),
        ("x,y,z\n\u22121.5,2,3\n", "line 2: expected three finite numbers"),
        ("x,y,z\n1,2,nan\n", "line 2: expected three finite numbers"),
        ("1,2,nan\n4,5,6\n", "line 1: expected three finite numbers"),
        ("1,2,inf\n", "line 1: expected three finite numbers"),
        ("1,2,1e999\n", "line 1: expected three finite numbers"),
        ("1,2,1_0\n", "line 1: expected three finite numbers"),
        (
            "1,2\n3,4\n5,6\n",
            "line 1: expected x, y, z (RAS+ mm) on each line, separated by commas, found 2 values",
        ),
        ("1,2,3,4,5,6\n", "found 6 values: 1,2,3,4,5,6"),
        ("1,2,3\n4,5\n", "line 2: expected x, y, z"),
        ("x,y,z,label\n1,2,3\n", "line 2: expected 4 values as in the first line, found 3 values"),
        ("1,2,3\nx,y,z\n4,5,6\n", "line 2: expected three finite numbers"),
        ('x,y,z\n1,2,"3\n4"\n', "line 2: expected three finite numbers for each point, found '1,2,3 4'"),
        ("1" * 200_000 + ",2,3\n", "not a table"),
    ],
)
def test_tables_that_are_not_understood(text: str, message: str):
    with pytest.raises(UnreadableFileError) as caught:
        read_table(Path("a.csv"), text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["", "x,y,z\n", "# nothing\n\n"])
def test_tables_without_points(text: str):
    assert read_table(Path("a.csv"), text).points.shape == (0, 3)
