"""Finished rows of the network's grid become label indices on the scan's own grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atlaseg.pipeline.errors import PlanError
from atlaseg.pipeline.inference.grid_map import AxisSamples, GridMap

__all__ = ["RowPainter"]


class RowPainter:
    """Takes rows of logits in rising order and writes the labels of the scan's voxels that lie between them.

    Linear interpolation is separable: within a row along two axes, then between a row and the one before.
    Only those two rows are kept, and the largest class is found by running over the classes. Where every
    voxel of the scan coincides with one of the network's (no resampling) the softmax is left out, as it
    does not change the order.

    Args:
        grid_map: from scan voxels to network voxels.
        samples: for each network axis, where the scan's voxels lie.
        axis: network axis along which the rows come.
        labels: ``(*scan)`` integers, all zero; filled here.
        probabilities: ``(K, *scan)`` floats that are filled here, or ``None``.
    """

    def __init__(
        self,
        grid_map: GridMap,
        samples: Sequence[AxisSamples],
        axis: int,
        labels: npt.NDArray[Any],
        probabilities: npt.NDArray[Any] | None,
    ) -> None:
        first, second = (a for a in range(3) if a != axis)
        self._along = samples[axis]
        self._plane = (samples[first], samples[second])
        self._exact = all(s.exact for s in samples)
        # Views whose axes come in the network's order, so that below only one order exists.
        order = (grid_map.axes[axis], grid_map.axes[first], grid_map.axes[second])
        self._labels = labels.transpose(order)
        self._probabilities = (
            None if probabilities is None else probabilities.transpose(0, *(a + 1 for a in order))
        )
        self._due: dict[int, list[int]] = defaultdict(list)
        for number, (lower, weight) in enumerate(zip(self._along.lower, self._along.weight, strict=True)):
            self._due[int(lower) + (weight > 0)].append(number)
        self._needed = set(self._due) | {int(n) for n in self._along.lower}
        self._previous: torch.Tensor | None = None

    def paint(self, row: int, sums: torch.Tensor, weights: torch.Tensor) -> None:
        """Take the next row: weighted sums of logits ``(K, *plane)`` and the sums of weights ``(*plane)``.

        Raises:
            PlanError: the networks gave values that are not finite.
        """
        if row not in self._needed or not len(self._plane[0].lower) or not len(self._plane[1].lower):
            return
        if self._exact:
            self._paint_exact(row, sums, weights)
            return
        scores = _crop(sums, self._plane).contiguous() / _crop(weights, self._plane)
        current = self._resample(torch.softmax(scores, dim=0))
        for number in self._due[row]:
            weight = float(self._along.weight[number])
            lower = self._previous if weight > 0 else current
            if lower is None:
                raise PlanError(f"row {row} came before row {row - 1}; rows must rise")
            self._write_labels(number, _largest(lower, current, weight))
            if self._probabilities is not None:
                self._write_probabilities(number, torch.lerp(lower, current, weight))
        self._previous = current

    def _paint_exact(self, row: int, sums: torch.Tensor, weights: torch.Tensor) -> None:
        # classes first in memory: they are run over one by one
        scores = self._resample(_crop(sums, self._plane).contiguous())
        labels = _largest(scores, scores, 0.0)
        for number in self._due[row]:
            self._write_labels(number, labels)
            if self._probabilities is not None:
                total = self._resample(_crop(weights, self._plane)[None])
                self._write_probabilities(number, torch.softmax(scores / total, dim=0))

    def _resample(self, plane: torch.Tensor) -> torch.Tensor:
        """``(K, n, m)``, cropped, -> ``(K, N, M)`` at the scan's positions."""
        first, second = self._plane
        plane = _interpolate_rows(plane, first)
        return _interpolate_rows(plane.transpose(1, 2), second).transpose(1, 2)

    def _write_labels(self, number: int, labels: torch.Tensor) -> None:
        first, second = self._plane
        self._labels[self._along.start + number, first.inside, second.inside] = labels.cpu().numpy()

    def _write_probabilities(self, number: int, probabilities: torch.Tensor) -> None:
        if self._probabilities is None:
            return
        first, second = self._plane
        row = self._along.start + number
        self._probabilities[:, row, first.inside, second.inside] = probabilities.cpu().numpy()


def _crop(plane: torch.Tensor, samples: tuple[AxisSamples, AxisSamples]) -> torch.Tensor:
    """The part of ``(..., N, M)`` that interpolation reads."""
    for dim, sample in zip((-2, -1), samples, strict=True):
        first = int(sample.lower.min())
        last = int((sample.lower + (sample.weight > 0)).max())
        plane = plane.narrow(dim, first, last - first + 1)
    return plane


def _interpolate_rows(plane: torch.Tensor, samples: AxisSamples) -> torch.Tensor:
    """Linear interpolation of ``(K, n, m)``, already cropped, along ``n``."""
    index = samples.lower - samples.lower.min()
    if samples.exact and np.array_equal(index, np.arange(plane.shape[1])):
        return plane
    if samples.exact and np.array_equal(index, np.arange(plane.shape[1])[::-1]):
        return plane.flip(1)
    # Whole rows are copied and mixed: the transposition before costs little, and memory is read in order.
    plane = plane.contiguous()
    lower = plane.index_select(1, torch.from_numpy(index).to(plane.device))
    if samples.exact:
        return lower
    above = np.minimum(index + 1, plane.shape[1] - 1)
    upper = plane.index_select(1, torch.from_numpy(above).to(plane.device))
    return lower.lerp_(upper, torch.from_numpy(samples.weight).to(plane.device)[:, None])


def _largest(lower: torch.Tensor, upper: torch.Tensor, weight: float) -> torch.Tensor:
    """Index of the largest class of ``(1 - weight) * lower + weight * upper``; the first of equals.

    Args:
        lower: ``(K, n, m)``.
        upper: ``(K, n, m)``.
        weight: share of ``upper``.

    Raises:
        PlanError: the largest value is not finite.
    """
    classes = lower.shape[0]
    best = lower[0].lerp(upper[0], weight) if weight else lower[0].clone()
    labels = torch.zeros_like(best, dtype=torch.uint8 if classes <= 256 else torch.int32)
    for k in range(1, classes):
        value = lower[k].lerp(upper[k], weight) if weight else lower[k]
        labels.masked_fill_(value > best, k)
        # maximum hands NaN on, so that one look at the end finds it
        torch.maximum(best, value, out=best)
    if not bool(torch.isfinite(best).all()):
        raise PlanError(
            "the network gave values that are not finite; use precision fp32, check the scan and the weights"
        )
    return labels
