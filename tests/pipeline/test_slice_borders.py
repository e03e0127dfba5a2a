"""Borders along a slice: found where they are, in any orientation, and nowhere else; kept with the fewest changes."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from atlaseg.pipeline.errors import UnreadableFileError
from atlaseg.pipeline.slice_borders import (
    SliceBorder,
    borders_from_plain,
    find_slice_borders,
    keep_slice_borders,
    plain_borders,
)


def banana(cut: int, shape: tuple[int, int, int] = (20, 24, 18), tilt: float = 0.0) -> Any:
    """A tube along the second axis, 2 before the cut and 1 from there on; the cut may be tilted."""
    x, y, z = np.indices(shape)
    inside = (x - 10) ** 2 + (z - 9) ** 2 < 30
    inside &= (y > 2) & (y < 21)
    return np.where(inside, np.where(y + tilt * (x - 10) >= cut, 1, 2), 0).astype(np.uint8)


def turned(labels: Any, codes: str) -> tuple[Any, Any]:
    """The same labels stored in another orientation."""
    turn = ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(codes))
    return nib.apply_orientation(labels, turn), inv_ornt_aff(turn, labels.shape)


RULE = SliceBorder(first=2, second=1, axis=1)


def test_a_rule_is_found_in_any_orientation() -> None:
    cases = [turned(banana(cut), codes) for cut, codes in ((10, "RAS"), (12, "LPS"), (13, "SRA"), (9, "AIL"))]
    assert find_slice_borders(cases, 3) == (RULE,)


def test_raters_err_by_some_voxels() -> None:
    cases = []
    for cut in (10, 11, 12, 13):
        labels = banana(cut)
        places = np.argwhere((labels == 1) & (np.indices(labels.shape)[1] == cut))[: 4 if cut == 12 else 0]
        labels[tuple(places.T)] = 2
        cases.append((labels, np.eye(4)))
    assert find_slice_borders(cases, 3) == (RULE,)


@pytest.mark.parametrize(
    "cases",
    [
        [banana(cut, tilt=0.5) for cut in (10, 11, 12)],
        [banana(10), banana(11), banana(12), banana(11, tilt=1.0)],
        [banana(10), banana(11)],
        [np.where(banana(cut) == 2, 0, banana(cut)) for cut in (10, 11, 12)],
    ],
    ids=["tilted", "one contradicts", "too few", "no second structure"],
)
def test_no_rule_where_there_is_none(cases: list[Any]) -> None:
    assert find_slice_borders([(labels, np.eye(4)) for labels in cases], 3) == ()


def test_structures_that_touch_at_a_corner_follow_no_rule() -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:8, 2:6, 2:8] = 1
    labels[7:11, 6:10, 7:11] = 2  # one voxel of each meets the other
    assert find_slice_borders([(labels, np.eye(4))] * 4, 3) == ()


def test_a_nested_structure_follows_no_rule() -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:10, 2:10, 2:10] = 1
    labels[4:8, 4:8, 4:8] = 2
    assert find_slice_borders([(labels, np.eye(4))] * 4, 3) == ()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "AIL"])
def test_a_tilted_border_becomes_the_nearest_slice(codes: str) -> None:
    drawn = banana(12, tilt=0.4)
    labels, affine = turned(drawn, codes)
    kept, none = keep_slice_borders([RULE], labels, affine)
    assert none is None
    expected, _ = turned(banana(12), codes)
    np.testing.assert_array_equal(kept > 0, labels > 0)
    assert (kept != expected).mean() < 0.01  # the plane may lie a slice beside
    assert find_slice_borders([(kept, affine)] * 3, 3) == (RULE,)
    again, _ = keep_slice_borders([RULE], kept, affine)
    np.testing.assert_array_equal(again, kept)


def test_the_plane_has_the_fewest_changes() -> None:
    labels = banana(12, tilt=0.4)
    kept, _ = keep_slice_borders([RULE], labels, np.eye(4))
    y = np.indices(labels.shape)[1]
    changes = [(np.where(labels > 0, np.where(y >= cut, 1, 2), 0) != labels).sum() for cut in range(25)]
    assert (kept != labels).sum() == min(changes)


def test_probabilities_go_with_the_labels() -> None:
    labels = banana(12, tilt=0.4)
    rng = np.random.default_rng(0)
    chances = 0.5 * rng.dirichlet(np.ones(3), labels.shape) + 0.5 * np.eye(3)[labels]
    chances = np.moveaxis(chances, -1, 0)
    before = chances.copy()
    kept, new = keep_slice_borders([RULE], chances.argmax(axis=0), np.eye(4), chances)
    np.testing.assert_array_equal(chances, before)
    assert new is not None
    np.testing.assert_allclose(new.sum(axis=0), 1)
    np.testing.assert_array_equal(new.argmax(axis=0), kept)
    np.testing.assert_array_equal(new[0], before[0])


def test_nothing_is_changed_where_one_is_missing() -> None:
    labels = np.where(banana(12) == 1, 1, 0)
    kept, _ = keep_slice_borders([RULE], labels, np.eye(4))
    np.testing.assert_array_equal(kept, labels)


def test_plain_data_and_back() -> None:
    assert borders_from_plain(plain_borders([RULE]), 3, "x") == (RULE,)
    for spoilt in (
        [{"first": 1}],
        [{"first": 1, "second": 5, "axis": 0}],
        7,
        [{"first": 1, "second": 2, "axis": 3}],
    ):
        with pytest.raises(UnreadableFileError, match="x: "):
            borders_from_plain(spoilt, 3, "x")
