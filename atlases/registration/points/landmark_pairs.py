"""Which landmark of one scan corresponds to which of another: by their names, or by their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.points.point_set import Landmarks, shown
from atlaseg.pipeline.errors import OptionError

__all__ = ["LandmarkPairs", "pair_landmarks"]


@dataclass(frozen=True, eq=False)
class LandmarkPairs:
    """Corresponding points of two scans.

    Args:
        fixed: ``(n, 3)``, RAS+ mm.
        moving: the point of the other scan for each, RAS+ mm.
        by_name: whether names paired them; otherwise their order did.
        left_out: names that only one of the files has.
    """

    fixed: npt.NDArray[np.float64]
    moving: npt.NDArray[np.float64]
    by_name: bool
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        left_out = f"; without a partner, left out: {', '.join(map(shown, self.left_out))}"
        how = "by their names" if self.by_name else "in the order of the files"
        return f"{len(self.fixed)} landmarks paired {how}{left_out if self.left_out else ''}"


def pair_landmarks(fixed: Landmarks, moving: Landmarks) -> LandmarkPairs:
    """Pair the landmarks of two files.

    Where both files name all their points, each name once, and have a name in common, points of one name belong
    together and the others are left out. Otherwise the first point belongs to the first, and so on.

    >>> a = Landmarks(np.eye(3), labels=("AC", "PC", "F-3"))
    >>> b = Landmarks(np.eye(3)[:2], labels=("PC", "AC"))
    >>> str(pair_landmarks(a, b))
    '2 landmarks paired by their names; without a partner, left out: F-3'

    Raises:
        OptionError: the points are paired by their order, and one file has more than the other.
    """
    names = _names(fixed), _names(moving)
    common = [name for name in names[0] if name in names[1]]
    if common:
        places = ([own.index(name) for name in common] for own in names)
        first, second = (file.points[place] for file, place in zip((fixed, moving), places, strict=True))
        left_out = tuple(name for name in (*names[0], *names[1]) if name not in common)
        return LandmarkPairs(first, second, True, left_out)
    if len(fixed.points) != len(moving.points):
        raise OptionError(
            f"{len(fixed.points)} fixed and {len(moving.points)} moving landmarks, which have no names in common: "
            "give as many of one as of the other, in the same order, or the same names"
        )
    return LandmarkPairs(fixed.points, moving.points, False)


def _names(landmarks: Landmarks) -> list[str]:
    """Names that tell the points apart; none where a point has no name, or shares it."""
    names = [name.strip() for name in landmarks.labels]
    return names if all(names) and len(set(names)) == len(names) else []
