"""Picture of a probabilistic atlas: the mean image, overlaid with the probabilities of the structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["draw_atlas"]

#: Planes with the array axis that they are cut across, for arrays whose axes are close to RAS+.
_PLANES = (("sagittal", 0), ("coronal", 1), ("axial", 2))
#: More structures than this are not named beside the picture.
_MOST_NAMES = 24


def draw_atlas(
    path: Path,
    image: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    spacing: Sequence[float],
    names: Sequence[str],
    title: str = "",
) -> None:
    """Three planes through the middle of the structures, as a PNG: mean image; probabilities and their contours.

    Colours are the structures', as opaque as they are probable; lines enclose where a structure is more probable
    than not.

    Args:
        path: of the picture.
        image: ``(x, y, z)``, axes close to RAS+.
        probabilities: ``(K, x, y, z)``, background first.
        spacing: voxel size along the axes, mm.
        names: of the ``K`` labels.
        title: above the picture.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from atlaseg.pipeline.io.files import replacing
    from atlaseg.pipeline.overlay_colours import structure_colours

    colours = np.array(structure_colours(len(names) - 1))
    figure = Figure(figsize=(10, 7), layout="constrained")
    rows = figure.subplots(2, 3)
    low, high = (float(v) for v in np.percentile(image, (1, 99.5)))
    for column, (plane, axis) in enumerate(_PLANES):
        at = _middle(probabilities, axis)
        scan = np.take(image, at, axis=axis).T
        votes = np.take(probabilities, at, axis=axis + 1).transpose(0, 2, 1)
        across, up = (spacing[n] for n in range(3) if n != axis)
        for axes in (rows[0, column], rows[1, column]):
            axes.imshow(scan, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=up / across)
            axes.axis("off")
        rows[0, column].set_title(f"{plane}, slice {at}: mean image", fontsize=9)
        rows[1, column].set_title("probabilities", fontsize=9)
        _overlay(rows[1, column], votes, colours, up / across)
    if len(names) - 1 <= _MOST_NAMES:
        lines = [Line2D([], [], color=colour, linewidth=3) for colour in colours]
        figure.legend(lines, list(names[1:]), loc="outside lower center", ncols=4, fontsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _middle(probabilities: npt.NDArray[Any], axis: int) -> int:
    """Slice with the most structure."""
    import numpy as np

    others = tuple(n for n in range(3) if n != axis)
    return int(np.argmax((1 - probabilities[0]).sum(axis=others)))


def _overlay(axes: Any, votes: npt.NDArray[Any], colours: npt.NDArray[np.float64], aspect: float) -> None:
    """Mixed colours ``(up, across)`` of votes ``(K, up, across)``, and the contour of each at one half."""
    import numpy as np

    structures = votes[1:]
    total = structures.sum(axis=0)
    mixed = np.tensordot(structures, colours, axes=(0, 0)) / np.maximum(total, 1e-6)[..., None]
    shown = np.concatenate([mixed, 0.6 * total[..., None]], axis=-1)
    axes.imshow(np.clip(shown, 0, 1), origin="lower", aspect=aspect, interpolation="nearest")
    for colour, share in zip(colours, structures, strict=True):
        if share.max() > 0.5 > share.min():
            axes.contour(share, levels=[0.5], colors=[colour], linewidths=0.9)
