"""Draw a picture of a registration, for visual quality control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError
from atlaseg.pipeline.io.files import replacing
from atlaseg.pipeline.overlay_colours import FIXED_COLOUR, MOVING_COLOUR

__all__ = ["checkerboard", "draw_registration"]

#: Squares along the longer side of a checkerboard.
_SQUARES = 8


def checkerboard(a: npt.NDArray[Any], b: npt.NDArray[Any], squares: int = _SQUARES) -> npt.NDArray[Any]:
    """Two slices ``(x, y)`` in turn, square by square: edges that run on across squares are aligned.

    Raises:
        GeometryError: the slices differ in shape.

    >>> checkerboard(np.zeros((2, 2), int), np.ones((2, 2), int), squares=2).tolist()
    [[0, 1], [1, 0]]
    """
    if a.shape != b.shape:
        raise GeometryError(f"a checkerboard needs slices of one shape, found {a.shape} and {b.shape}")
    side = max(1, round(max(a.shape) / squares))
    x, y = np.indices(a.shape) // side
    return np.where((x + y) % 2 == 0, a, b)


def draw_registration(
    path: Path,
    fixed: npt.NDArray[Any],
    warped: npt.NDArray[Any],
    before: npt.NDArray[Any],
    spacing: tuple[float, ...],
) -> None:
    """Three planes of the scans: fixed, warped, checkerboard, and both in colours before and after, as a PNG.

    In the colours, green is the fixed and magenta the moving image; grey is where they are alike.

    Args:
        path: of the picture.
        fixed: ``(x, y, z)`` in [0, 1].
        warped: the moving image on the same grid, after registration.
        before: the same before it (its own coordinates taken as they are).
        spacing: voxel size in mm.
    """
    from matplotlib.figure import Figure

    titles = ("fixed", "warped", "checkerboard", "before: green fixed, magenta moving", "after")
    figure = Figure(figsize=(13, 8), layout="constrained", facecolor="white")
    rows = figure.subplots(3, len(titles))
    middle = [n // 2 for n in fixed.shape]
    for axis, row in enumerate(rows):
        a, w, b = (np.take(volume, middle[axis], axis=axis) for volume in (fixed, warped, before))
        remaining = [spacing[other] for other in range(3) if other != axis]
        pictures = (a, w, checkerboard(a, w), _colours(a, b), _colours(a, w))
        for panel, picture, title in zip(row, pictures, titles, strict=True):
            # the first array axis runs to the right, the second upwards
            shown = np.swapaxes(picture, 0, 1)
            panel.imshow(
                shown, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=remaining[1] / remaining[0]
            )
            panel.set_axis_off()
            if axis == 0:
                panel.set_title(title, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _colours(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    mixed = a[..., np.newaxis] * np.asarray(FIXED_COLOUR) + b[..., np.newaxis] * np.asarray(MOVING_COLOUR)
    return np.clip(mixed, 0, 1)
