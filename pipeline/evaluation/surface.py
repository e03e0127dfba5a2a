"""Distances between the surfaces of two masks, in mm: HD95, ASSD and surface Dice.

The surface of a mask is its voxels that touch the outside by a face, as in ``monai.metrics``, whose routines
find the surfaces and the distances. They are computed once here, where ``monai.metrics`` computes them anew
for each of its three functions. On masks that are not empty the results equal those of
``compute_hausdorff_distance`` (percentile 95), ``compute_average_surface_distance`` (symmetric) and
``compute_surface_dice``; for empty masks MONAI gives NaN or infinity, and the rule of ``docs/scores.md``
holds instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import GeometryError, OptionError

__all__ = ["SurfaceScores", "field_of_view_mm", "surface_scores"]

#: MONAI's distances are float32: a distance equal to the tolerance must not fall outside it by rounding.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class SurfaceScores:
    """Distances between two surfaces.

    Args:
        hd95_mm: the larger of the two directed 95th percentiles of the distances to the other surface.
        assd_mm: mean of all distances, from both surfaces to the other one.
        surface_dice: share of both surfaces that is within the tolerance of the other one, in [0, 1].
    """

    hd95_mm: float
    assd_mm: float
    surface_dice: float


def field_of_view_mm(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Diagonal of a grid in mm, an upper bound of every distance in it.

    >>> round(field_of_view_mm((240, 240, 155), (1.0, 1.0, 1.0)), 2)
    373.13
    """
    return float(np.linalg.norm(np.asarray(shape, dtype=float) * np.asarray(spacing, dtype=float)))


def surface_scores(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    spacing: Sequence[float],
    tolerance_mm: float = 1.0,
    worst_mm: float | None = None,
) -> SurfaceScores:
    """HD95, ASSD and surface Dice of two masks.

    Both masks empty: distances 0, surface Dice 1. One of them empty: distances ``worst_mm``, surface Dice 0.

    Surface Dice: Nikolov et al., J Med Internet Res 23(7):e26151 (2021), doi:10.2196/26151; surface voxels
    are counted, not weighted by their area. HD95: Taha and Hanbury (2015), doi:10.1186/s12880-015-0068-x.

    Args:
        prediction: ``(*spatial)`` bool (or zero and non-zero).
        reference: of the same shape.
        spacing: voxel size in mm along each axis of the array.
        tolerance_mm: distance that still counts as agreement in the surface Dice.
        worst_mm: distance for a structure that only one mask has; by default the diagonal of the masks' grid.

    Raises:
        GeometryError: shapes differ, or the spacing does not fit them.
        OptionError: the tolerance is negative or not finite.

    >>> plate = np.zeros((9, 9, 9), bool)
    >>> plate[2:7, 2:7, 4] = True
    >>> surface_scores(np.roll(plate, 1, axis=2), plate, (1.0, 1.0, 3.0), tolerance_mm=3.0)
    SurfaceScores(hd95_mm=3.0, assd_mm=3.0, surface_dice=1.0)
    """
    if prediction.shape != reference.shape:
        raise GeometryError(f"prediction has shape {prediction.shape}, reference {reference.shape}")
    if len(spacing) != reference.ndim or not all(s > 0 for s in spacing):
        raise GeometryError(
            f"spacing {tuple(spacing)} must be {reference.ndim} positive numbers, one for each axis"
        )
    if not 0 <= tolerance_mm < np.inf:
        raise OptionError(f"tolerance must be at least 0 mm and finite, found {tolerance_mm}")
    first, second = np.asarray(prediction, dtype=bool), np.asarray(reference, dtype=bool)
    if not first.any() and not second.any():
        return SurfaceScores(0.0, 0.0, 1.0)
    if not first.any() or not second.any():
        worst = field_of_view_mm(reference.shape, spacing) if worst_mm is None else worst_mm
        return SurfaceScores(worst, worst, 0.0)
    to_reference, to_prediction = _distances(first, second, spacing)
    both = np.concatenate([to_reference, to_prediction])
    return SurfaceScores(
        hd95_mm=float(max(np.percentile(to_reference, 95), np.percentile(to_prediction, 95))),
        assd_mm=float(both.mean()),
        surface_dice=float(np.mean(both <= tolerance_mm * (1 + _ROUNDING))),
    )


def _distances(
    prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distances in mm of each surface voxel of one mask to the other's surface, and the other way round."""
    from monai.metrics.utils import get_mask_edges, get_surface_distance
    from scipy.ndimage import find_objects

    # Outside of the box there is no mask: the surfaces in it are those of the whole grid.
    box = find_objects((prediction | reference).view(np.uint8))[0]
    edges_prediction, edges_reference = get_mask_edges(prediction[box], reference[box], crop=False)
    sizes = [float(s) for s in spacing]
    to_reference = get_surface_distance(edges_prediction, edges_reference, spacing=sizes)
    to_prediction = get_surface_distance(edges_reference, edges_prediction, spacing=sizes)
    return np.asarray(to_reference, dtype=np.float64), np.asarray(to_prediction, dtype=np.float64)
