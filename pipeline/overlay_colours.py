"""Colours of overlays: one per structure in pictures of scans, one for the truth and one per method in reports."""

from __future__ import annotations

__all__ = [
    "FIXED_COLOUR",
    "METHOD_COLOURS",
    "MOVING_COLOUR",
    "OUTLINE_EDGE",
    "PICTURE_GROUND",
    "PICTURE_TEXT",
    "TRUTH_COLOUR",
    "structure_colours",
]

#: Okabe and Ito's colours without yellow and black, which vanish on paper or in text, then Tol's wine, olive,
#: indigo and grey: distinct with any kind of colour vision (Okabe and Ito, Color Universal Design, 2008,
#: jfly.uni-koeln.de/color; Tol, SRON technical note SRON/EPS/TN/09-002, 2021).
METHOD_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#882255", "#999933", "#332288", "#777777"),
)
#: Outline of the reference labels in a report.
TRUTH_COLOUR = "#ffffff"
#: Dark edge of that outline and of letters, letters and scale bar, and what lies behind the slices of a report.
OUTLINE_EDGE, PICTURE_TEXT, PICTURE_GROUND = "#000000", "#ffffff", "#000000"
#: Fixed and moving scan of a registration, RGB from 0 to 1; they add up to white where the scans agree.
FIXED_COLOUR, MOVING_COLOUR = (0.0, 1.0, 0.0), (1.0, 0.0, 1.0)


def structure_colours(count: int) -> list[tuple[float, float, float]]:
    """Colours of the structures 1 to ``count`` (RGB from 0 to 1), the same in every picture of a scan.

    >>> len(set(structure_colours(20)))
    20
    """
    from matplotlib import colormaps

    # neighbours in tab20 are two shades of one hue: take every other one first
    order = [*range(0, 20, 2), *range(1, 20, 2)]
    return [tuple(colormaps["tab20"](order[k % 20])[:3]) for k in range(count)]
