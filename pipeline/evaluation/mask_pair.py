"""One structure in two label maps: input of the metrics, with shared intermediate results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.evaluation.surface import Surface, SurfaceDistances, surface_distances

__all__ = ["MaskPair", "mask_pairs"]


@dataclass(frozen=True, eq=False)
class MaskPair:
    """One structure in a prediction and in a reference.

    Args:
        label: channel index of the structure.
        found: channel indices of the prediction ``(*spatial)``, ``None`` where there is no prediction at all.
        truth: channel indices of the reference, of the same shape.
        confusion: ``(K, K)`` voxel counts, rows the reference, columns the prediction.
        spacing: voxel size in mm along each axis.
        box: smallest part of the grid that holds the structure in both maps.
        tolerance_mm: distance that still counts as agreement.
        surface: what surfaces are made of, see :mod:`atlaseg.pipeline.evaluation.surface`.
    """

    label: int
    found: npt.NDArray[Any] | None
    truth: npt.NDArray[Any]
    confusion: npt.NDArray[np.int64]
    spacing: tuple[float, ...]
    box: tuple[slice, ...]
    tolerance_mm: float = 1.0
    surface: Surface = "voxels"

    @cached_property
    def voxels(self) -> int:
        """Voxels of the whole grid."""
        return self.truth.size

    @cached_property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(np.asarray(self.spacing, dtype=float))) / 1000.0

    @cached_property
    def diagonal_mm(self) -> float:
        """Diagonal of the whole grid, an upper bound of every distance in it."""
        return float(
            np.linalg.norm(np.asarray(self.truth.shape, dtype=float) * np.asarray(self.spacing, dtype=float))
        )

    @cached_property
    def both_voxels(self) -> int:
        """Voxels that are the structure in both maps."""
        return int(self.confusion[self.label, self.label]) if self.found is not None else 0

    @cached_property
    def reference_voxels(self) -> int:
        """Voxels of the structure in the reference."""
        return int(self.confusion[self.label].sum())

    @cached_property
    def prediction_voxels(self) -> int:
        """Voxels of the structure in the prediction; none where there is no prediction."""
        return int(self.confusion[:, self.label].sum()) if self.found is not None else 0

    @cached_property
    def prediction(self) -> npt.NDArray[np.bool_]:
        """The structure in the prediction, in the box and without axes of one voxel."""
        return self._mask(np.zeros_like(self.truth) if self.found is None else self.found)

    @cached_property
    def reference(self) -> npt.NDArray[np.bool_]:
        """The structure in the reference, in the box and without axes of one voxel."""
        return self._mask(self.truth)

    @cached_property
    def mask_spacing(self) -> tuple[float, ...]:
        """Voxel size in mm along each axis of :attr:`prediction` and :attr:`reference`."""
        return tuple(self.spacing[axis] for axis in _axes(self.truth.shape))

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Distances between the surfaces of the two masks, of which neither may be empty."""
        return surface_distances(self.prediction, self.reference, self.mask_spacing, self.surface)

    def _mask(self, indices: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return in_plane(indices)[self.box] == self.label


def _axes(shape: Sequence[int]) -> list[int]:
    """Axes of more than one voxel, or all where there is none.

    Along an axis of one voxel every voxel would be surface: a single slice is scored in its plane.
    """
    return [axis for axis, n in enumerate(shape) if n > 1] or list(range(len(shape)))


def in_plane(indices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array without its axes of one voxel."""
    return indices.reshape([indices.shape[axis] for axis in _axes(indices.shape)])


def mask_pairs(
    found: npt.NDArray[Any] | None,
    truth: npt.NDArray[Any],
    confusion: npt.NDArray[np.int64],
    spacing: Sequence[float],
    tolerance_mm: float = 1.0,
    surface: Surface = "voxels",
) -> Iterator[MaskPair]:
    """The structures ``1..K-1`` of two maps of channel indices; arguments are those of :class:`MaskPair`.

    Raises:
        OptionError: the tolerance is negative or not finite.
    """
    from scipy.ndimage import find_objects

    if not 0 <= tolerance_mm < np.inf:
        raise OptionError(f"tolerance must be at least 0 mm and finite, found {tolerance_mm}")
    K = len(confusion)
    boxes = [[None] * (K - 1) if m is None else find_objects(in_plane(m), K - 1) for m in (found, truth)]
    for label, (a, b) in enumerate(zip(*boxes, strict=True), start=1):
        yield MaskPair(
            label,
            found,
            truth,
            confusion,
            tuple(float(size) for size in spacing),
            _union(a, b),
            tolerance_mm,
            surface,
        )


def _union(a: tuple[slice, ...] | None, b: tuple[slice, ...] | None) -> tuple[slice, ...]:
    """Smallest box around two boxes; ``None`` is a box of nothing."""
    if a is None or b is None:
        return a or b or (slice(0, 0),)
    return tuple(slice(min(i.start, j.start), max(i.stop, j.stop)) for i, j in zip(a, b, strict=True))
