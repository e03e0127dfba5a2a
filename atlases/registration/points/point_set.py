"""Points of a scan, with the labels and descriptions of their file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Landmarks", "number_in", "shown"]

#: Python takes more for a number (1_000, digits of other scripts, "infinity") than any writer of tables means.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points of one file, with their labels and descriptions.

    Args:
        points: ``(n, 3)``, RAS+ mm.
        labels: name of each point; empty where the file has none.
        descriptions: likewise.
        groups: of 3D Slicer's lists in the file, the kind of each (``Fiducial``, ``Curve``, ...) and how many of the
            points are its; empty means one list of points.
    """

    points: npt.NDArray[np.float64]
    labels: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()

    def name_of(self, number: int) -> str:
        """What a message calls a point: its number, from 1, and its label.

        >>> Landmarks(np.zeros((2, 3)), labels=("AC", "PC")).name_of(1)
        'point 2 (PC)'
        """
        label = shown(self.labels[number]) if self.labels else ""
        return f"point {number + 1}" + (f" ({label})" if label else "")


def shown(text: str) -> str:
    r"""Text of a file as a message shows it: on one line, printable, not long.

    >>> shown("A\n\x1b[1mB")
    'A [1mB'
    """
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:60]


def number_in(text: str) -> float | None:
    """Parse a finite number; ``None`` for other text.

    >>> number_in(" -1.5e2 "), number_in("nan"), number_in("1_000")
    (-150.0, None, None)
    """
    value = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
    return value if math.isfinite(value) else None
