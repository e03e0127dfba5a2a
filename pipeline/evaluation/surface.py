"""Distances between the surfaces of two masks, in mm: HD95, ASSD and surface Dice.

Two definitions of a surface (``docs/explanation/scores.md`` says how far apart they are):

- ``voxels``: the voxels of a mask that touch the outside by a face, each counting one, as in ``monai.metrics``. On
  masks that are not empty the results equal those of ``compute_hausdorff_distance`` (percentile 95),
  ``compute_average_surface_distance`` (symmetric) and ``compute_surface_dice``.
- ``elements``: pieces of surface between voxels, one for each corner that eight voxels share, weighted by their area,
  as Nikolov et al. (2021) define them and their package ``surface-distance`` computes them.

MONAI's routines find both surfaces, areas and distances. They are computed once here, where ``monai.metrics`` computes
them anew for each score. For empty masks MONAI gives NaN or infinity, and the rule of
``docs/explanation/scores.md`` holds instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["Surface", "SurfaceScores", "field_of_view_mm", "surface_scores"]

#: What a surface is made of.
Surface = Literal["voxels", "elements"]

#: MONAI's distances are float32: a distance equal to the tolerance must not fall outside it by rounding.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class SurfaceScores:
    """Distances between two surfaces; elements count by their area.

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
    surface: Surface = "voxels",
) -> SurfaceScores:
    """HD95, ASSD and surface Dice of two masks.

    Both masks empty: distances 0, surface Dice 1. One of them empty: distances ``worst_mm``, surface Dice 0.

    Surface Dice: Nikolov et al., J Med Internet Res 23(7):e26151 (2021), doi:10.2196/26151, who weight surfaces by
    their area (``elements``). HD95: Taha and Hanbury (2015), doi:10.1186/s12880-015-0068-x.

    Args:
        prediction: ``(*spatial)`` bool (or zero and non-zero).
        reference: of the same shape.
        spacing: voxel size in mm along each axis of the array.
        tolerance_mm: distance that still counts as agreement in the surface Dice.
        worst_mm: distance for a structure that only one mask has; by default the diagonal of the masks' grid.
        surface: what surfaces are made of.

    Raises:
        GeometryError: shapes differ, or the spacing does not fit them; elements of more than three axes.
        OptionError: the tolerance is negative or not finite.

    >>> plate = np.zeros((9, 9, 9), bool)
    >>> plate[2:7, 2:7, 4] = True
    >>> surface_scores(np.roll(plate, 1, axis=2), plate, (1.0, 1.0, 3.0), tolerance_mm=3.0)
    SurfaceScores(hd95_mm=3.0, assd_mm=3.0, surface_dice=1.0)
    >>> found = surface_scores(np.roll(plate, 1, axis=2), plate, (1.0, 1.0, 3.0), tolerance_mm=0.5, surface="elements")
    >>> round(found.assd_mm, 2), round(found.surface_dice, 2)  # one face of the plate lies where the other's was
    (1.5, 0.5)
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
    found = _voxels if surface == "voxels" else _elements
    to_reference, to_prediction = found(*_cropped(first, second), [float(s) for s in spacing])
    within = tolerance_mm * (1 + _ROUNDING)
    area = to_reference.area + to_prediction.area
    return SurfaceScores(
        hd95_mm=max(to_reference.percentile_95(), to_prediction.percentile_95()),
        assd_mm=(to_reference.total() + to_prediction.total()) / area,
        surface_dice=(to_reference.area_within(within) + to_prediction.area_within(within)) / area,
    )


@dataclass(frozen=True, eq=False)
class _Directed:
    """Distances in mm from each piece of one surface to the other surface.

    Args:
        distances: one for each piece.
        weights: area of each piece in mm2 (length in mm in a plane), ``None`` where all count the same.
    """

    distances: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64] | None = None

    @property
    def area(self) -> float:
        return float(len(self.distances) if self.weights is None else self.weights.sum())

    def total(self) -> float:
        return float(self.distances.sum() if self.weights is None else self.distances @ self.weights)

    def area_within(self, tolerance_mm: float) -> float:
        near = self.distances <= tolerance_mm
        return float(np.count_nonzero(near) if self.weights is None else self.weights[near].sum())

    def percentile_95(self) -> float:
        """Of voxels as ``numpy.percentile``; of elements the first distance that 95% of the area is within."""
        if self.weights is None:
            return float(np.percentile(self.distances, 95))
        order = np.argsort(self.distances)
        share = np.cumsum(self.weights[order]) / self.weights.sum()
        return float(self.distances[order[min(int(np.searchsorted(share, 0.95)), len(order) - 1)]])


_Mask = npt.NDArray[np.bool_]


def _cropped(prediction: _Mask, reference: _Mask) -> tuple[_Mask, _Mask]:
    """Both masks in the box around them, outside of which there is no surface."""
    from scipy.ndimage import find_objects

    box = find_objects((prediction | reference).view(np.uint8))[0]
    return prediction[box], reference[box]


def _voxels(prediction: _Mask, reference: _Mask, spacing: list[float]) -> tuple[_Directed, _Directed]:
    """From the surface voxels of each mask to those of the other."""
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    a, b = get_mask_edges(prediction, reference, crop=False)
    there, back = (get_surface_distance(*pair, spacing=spacing) for pair in ((a, b), (b, a)))
    return _Directed(np.asarray(there, dtype=np.float64)), _Directed(np.asarray(back, dtype=np.float64))


def _elements(prediction: _Mask, reference: _Mask, spacing: list[float]) -> tuple[_Directed, _Directed]:
    """From the surface elements of each mask to those of the other; they lie at the corners of voxels."""
    import torch
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    if prediction.ndim > 3:
        raise GeometryError(f"surface elements are of 2 or 3 axes, found {prediction.ndim}; take voxels")
    padded = [np.pad(mask, 1) for mask in (prediction, reference)]
    if prediction.ndim == 1:  # the two ends of a row have no size
        a, b = (mask[1:] != mask[:-1] for mask in padded)
        area_a, area_b = a.astype(np.float64), b.astype(np.float64)
    else:
        found: Any = get_mask_edges(*map(torch.from_numpy, padded), crop=False, spacing=spacing)
        a, b, area_a, area_b = (np.asarray(part) for part in found)
    there, back = (get_surface_distance(*pair, spacing=spacing) for pair in ((a, b), (b, a)))
    return (
        _Directed(np.asarray(there, dtype=np.float64), area_a[a].astype(np.float64)),
        _Directed(np.asarray(back, dtype=np.float64), area_b[b].astype(np.float64)),
    )
