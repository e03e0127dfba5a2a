"""Surfaces of two masks and the distances between them, in mm.

Two definitions of a surface (``docs/explanation/scores.md`` says how far apart they are):

- ``voxels``: the voxels of a mask that touch the outside by a face, each counting one, as in ``monai.metrics``.
- ``elements``: pieces of surface between voxels, one for each corner that eight voxels share, weighted by their area,
  as Nikolov et al. (2021) define them and their package ``surface-distance`` computes them.

MONAI's routines find both surfaces, areas and distances. They are computed once here, where ``monai.metrics`` computes
them anew for each score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError

__all__ = ["Surface", "SurfaceDistances", "surface_distances"]

#: What a surface is made of.
Surface = Literal["voxels", "elements"]


@dataclass(frozen=True, eq=False)
class Directed:
    """Distances in mm from each piece of one surface to the other surface.

    Args:
        distances: one for each piece.
        weights: area of each piece in mm2 (length in mm in a plane), ``None`` where all count the same.
    """

    distances: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64] | None = None

    @property
    def area(self) -> float:
        """Sum of the weights of all pieces."""
        return float(len(self.distances) if self.weights is None else self.weights.sum())

    def total(self) -> float:
        """Sum of the distances, by weight."""
        return float(self.distances.sum() if self.weights is None else self.distances @ self.weights)

    def area_within(self, tolerance_mm: float) -> float:
        """Sum of the weights of the pieces that are at most so far away."""
        near = self.distances <= tolerance_mm
        return float(np.count_nonzero(near) if self.weights is None else self.weights[near].sum())

    def percentile_95(self) -> float:
        """Of voxels as ``numpy.percentile``; of elements the first distance that 95% of the area is within."""
        if self.weights is None:
            return float(np.percentile(self.distances, 95))
        order = np.argsort(self.distances)
        share = np.cumsum(self.weights[order]) / self.weights.sum()
        return float(self.distances[order[min(int(np.searchsorted(share, 0.95)), len(order) - 1)]])


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances between two surfaces.

    Args:
        to_reference: from the surface of the prediction.
        to_prediction: from the surface of the reference.
    """

    to_reference: Directed
    to_prediction: Directed


def surface_distances(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    spacing: Sequence[float],
    surface: Surface = "voxels",
) -> SurfaceDistances:
    """Distances between the surfaces of two masks.

    Args:
        prediction: ``(*spatial)`` bool, not empty.
        reference: of the same shape, not empty.
        spacing: voxel size in mm along each axis of the array.
        surface: what surfaces are made of.

    Raises:
        GeometryError: shapes differ, a mask is empty, or the spacing does not fit them; elements of more than three
            axes.

    >>> plate = np.zeros((9, 9, 9), bool)
    >>> plate[2:7, 2:7, 4] = True
    >>> found = surface_distances(np.roll(plate, 1, axis=2), plate, (1.0, 1.0, 3.0))
    >>> found.to_reference.percentile_95(), found.to_reference.total() / found.to_reference.area
    (3.0, 3.0)
    """
    if prediction.shape != reference.shape:
        raise GeometryError(f"prediction has shape {prediction.shape}, reference {reference.shape}")
    if len(spacing) != reference.ndim or not all(s > 0 for s in spacing):
        raise GeometryError(
            f"spacing {tuple(spacing)} must be {reference.ndim} positive numbers, one for each axis"
        )
    masks = np.asarray(prediction, dtype=bool), np.asarray(reference, dtype=bool)
    if not all(mask.any() for mask in masks):
        raise GeometryError("an empty mask has no surface that distances could be measured to")
    found = _voxels if surface == "voxels" else _elements
    return SurfaceDistances(*found(*_cropped(*masks), [float(s) for s in spacing]))


_Mask = npt.NDArray[np.bool_]


def _cropped(prediction: _Mask, reference: _Mask) -> tuple[_Mask, _Mask]:
    """Both masks in the box around them, outside of which there is no surface."""
    from scipy.ndimage import find_objects

    box = find_objects((prediction | reference).view(np.uint8))[0]
    return prediction[box], reference[box]


def _voxels(prediction: _Mask, reference: _Mask, spacing: list[float]) -> tuple[Directed, Directed]:
    """From the surface voxels of each mask to those of the other."""
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    a, b = get_mask_edges(prediction, reference, crop=False)
    there, back = (get_surface_distance(*pair, spacing=spacing) for pair in ((a, b), (b, a)))
    return Directed(np.asarray(there, dtype=np.float64)), Directed(np.asarray(back, dtype=np.float64))


def _elements(prediction: _Mask, reference: _Mask, spacing: list[float]) -> tuple[Directed, Directed]:
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
        Directed(np.asarray(there, dtype=np.float64), area_a[a].astype(np.float64)),
        Directed(np.asarray(back, dtype=np.float64), area_b[b].astype(np.float64)),
    )
