"""Weighted sums of window logits for only those rows that windows still touch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from atlaseg.pipeline.errors import PlanError

__all__ = ["RollingSlab"]


class RollingSlab:
    """Accumulator of one window's thickness that moves along one axis of the array.

    Row ``i`` of the slab axis lives in layer ``i mod thickness``, so nothing is ever moved: a finished row
    is read, set to zero, and its layer serves the row one thickness further on. It holds ``4 * (K + 1) *
    thickness * (voxels of a row)`` bytes. Classes come first or last in memory as they do in the first
    window's logits (contiguous or ``channels_last_3d``): adding the one to the other takes ten times
    longer.

    Args:
        classes: ``K``.
        shape: spatial shape of the whole array.
        weights: ``(*patch)``, weight of each voxel of a window.
        axis: the slab axis.
    """

    def __init__(self, classes: int, shape: Sequence[int], weights: torch.Tensor, axis: int) -> None:
        self.weights = weights
        self.axis = axis
        self.thickness = weights.shape[axis]
        self._classes = classes
        self._layers = [*shape]
        self._layers[axis] = self.thickness
        self._weights = torch.zeros(self._layers, dtype=torch.float32, device=weights.device)
        self._sums: torch.Tensor | None = None

    def add(self, start: Sequence[int], logits: torch.Tensor) -> None:
        """Add the logits ``(K, *patch)`` of the window whose first voxel is ``start``."""
        sums = self._sums if self._sums is not None else self._allocate(logits)
        for layers, rows in self._segments(start[self.axis]):
            place = [slice(s, s + p) for s, p in zip(start, self.weights.shape, strict=True)]
            part = [slice(None)] * len(place)
            place[self.axis], part[self.axis] = layers, rows
            weights = self.weights[tuple(part)]
            sums[(slice(None), *place)].addcmul_(logits[(slice(None), *part)], weights)
            self._weights[tuple(place)].add_(weights)

    def row(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums ``(K, *plane)`` and weights ``(*plane)`` of one row: views, valid until it is released.

        Raises:
            PlanError: no window has been added.
        """
        if self._sums is None:
            raise PlanError("no window has been added to the slab, so that none of its rows is finished")
        layer = index % self.thickness
        return self._sums.select(self.axis + 1, layer), self._weights.select(self.axis, layer)

    def release(self, index: int) -> None:
        """Give the layer of a finished row to the row one thickness further on."""
        for view in self.row(index):
            view.zero_()

    def _allocate(self, logits: torch.Tensor) -> torch.Tensor:
        if logits.stride(0) == 1:
            classes_last = torch.zeros((*self._layers, self._classes), device=self.weights.device)
            self._sums = classes_last.permute(3, 0, 1, 2)
        else:
            self._sums = torch.zeros((self._classes, *self._layers), device=self.weights.device)
        return self._sums

    def _segments(self, start: int) -> Iterator[tuple[slice, slice]]:
        """Layers and the rows of a window that belong to them: two pieces where the window wraps around."""
        first = start % self.thickness
        head = self.thickness - first
        yield slice(first, self.thickness), slice(0, head)
        if first:
            yield slice(0, first), slice(head, self.thickness)
