"""What every method of segmentation is: the protocols :class:`Segmenter` and :class:`Prior`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from atlaseg.pipeline.case import Dataset

__all__ = ["Prior", "Segmentation", "Segmenter"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels for one scan, on that scan's own grid.

    Args:
        label_map: ``(*spatial)``, in the data set's own label values, smallest fitting integer type.
        affine: ``(4, 4)``, voxel index -> RAS+ mm, the scan's.
        probabilities: ``(K, *spatial)`` float, sums to one over ``K`` (background first), or ``None``.
    """

    label_map: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    probabilities: npt.NDArray[Any] | None = None


@runtime_checkable
class Segmenter(Protocol):
    """A method that learns from labelled cases and labels new scans: network, atlases or classical."""

    def fit(self, dataset: Dataset) -> Self:
        """Learn from the labelled cases of a data set; returns itself."""
        ...

    def segment(self, image: MetaTensor) -> Segmentation:
        """Label a scan ``(C, *spatial)`` with its affine in RAS+ mm; the scan is not changed."""
        ...

    def save(self, directory: Path) -> None:
        """Write all that :meth:`load` needs into a folder."""
        ...

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote; only data, never code."""
        ...


@runtime_checkable
class Prior(Protocol):
    """Something that knows, before a network looks, which label to expect where."""

    def probabilities(self, image: MetaTensor) -> MetaTensor:
        """Label probabilities ``(K, *spatial)`` on the grid of the scan, summing to one over ``K``."""
        ...
