from __future__ import annotations

import numpy as np
import pytest

from atlaseg.atlases.registration.points.landmark_pairs import pair_landmarks
from atlaseg.atlases.registration.points.point_set import Landmarks
from atlaseg.pipeline.errors import OptionError

POINTS = np.arange(12.0).reshape(4, 3)
NAMES = ("AC", "PC", "left", "right")


def test_names_pair_points_in_any_order() -> None:
    order = [2, 0, 3, 1]
    moving = Landmarks(POINTS[order] + 100, labels=tuple(NAMES[n] for n in order))
    pairs = pair_landmarks(Landmarks(POINTS, labels=NAMES), moving)
    np.testing.assert_array_equal(pairs.fixed, POINTS)
    np.testing.assert_array_equal(pairs.moving, POINTS + 100)
    assert str(pairs) == "4 landmarks paired by their names"


def test_points_that_only_one_file_names_are_left_out() -> None:
    pairs = pair_landmarks(
        Landmarks(POINTS, labels=NAMES), Landmarks(POINTS[:3], labels=("right", "x\n", "AC"))
    )
    np.testing.assert_array_equal(pairs.fixed, POINTS[[0, 3]])
    np.testing.assert_array_equal(pairs.moving, POINTS[[2, 0]])
    assert pairs.left_out == ("PC", "left", "x")


@pytest.mark.parametrize(
    ("fixed", "moving"),
    [
        ((), NAMES),
        (NAMES, ()),
        (NAMES, ("a", "b", "c", "d")),
        (NAMES, ("AC", "AC", "PC", "left")),
        (NAMES, ("PC", "AC", "", "left")),
    ],
)
def test_without_names_in_common_the_order_counts(fixed: tuple[str, ...], moving: tuple[str, ...]) -> None:
    pairs = pair_landmarks(Landmarks(POINTS, labels=fixed), Landmarks(POINTS + 1, labels=moving))
    np.testing.assert_array_equal(pairs.moving, pairs.fixed + 1)
    assert str(pairs) == "4 landmarks paired in the order of the files"


def test_unequal_numbers_without_names_are_refused() -> None:
    with pytest.raises(OptionError, match="4 fixed and 3 moving landmarks, which have no names in common"):
        pair_landmarks(Landmarks(POINTS), Landmarks(POINTS[:3], labels=NAMES[:3]))
