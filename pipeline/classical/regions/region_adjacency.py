"""Regions of a volume and which of them touch: the graph that split-and-merge and supervoxels share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["Criterion", "RegionAdjacency", "faces", "merging_costs"]

#: How unlike two neighbours are: see :func:`merging_costs`.
Criterion = Literal["mean", "ward", "mumford-shah"]


@dataclass(frozen=True, eq=False)
class RegionAdjacency:
    """Region adjacency graph: nodes with the sums that merging needs, edges with the boundary that two regions share.

    Sums, unlike means, add up, so that the graph of merged regions follows from this graph without the volume.
    Node ``i`` is the region of value ``i + 1`` in the map that the graph was made from.

    Source: Trémeau and Colantoni, "Regions adjacency graph applied to color image segmentation", IEEE Transactions
    on Image Processing 9(4):735-744 (2000), doi:10.1109/83.841950

    Args:
        sizes: ``(n,)`` float64, voxels of each region.
        sums: ``(n, C)`` float64, sum of its intensities in each channel.
        squares: ``(n, C)`` float64, sum of their squares.
        edges: ``(e, 2)`` int64, nodes ``i < j`` that share a voxel face, each pair once, in rising order.
        areas: ``(e,)`` float64, area of the boundary of each pair in mm^2.
    """

    sizes: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    edges: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls, regions: npt.NDArray[np.integer[Any]], voxels: npt.NDArray[Any], spacing: Sequence[float]
    ) -> Self:
        """Graph of a map of regions; no loop over voxels or regions (0.1 s for 4096 regions on 128^3).

        Args:
            regions: ``(x, y, z)``, 0 where there is no region, ``1..n`` each at least once. 2-D works as well.
            voxels: ``(C, x, y, z)`` or ``(x, y, z)`` intensities.
            spacing: voxel size in mm.

        Raises:
            GeometryError: the two do not lie on one grid.
            OptionError: a number between 1 and n is missing in the map, or one is negative.

        >>> graph = RegionAdjacency.of(np.array([[1, 1, 2], [1, 3, 2]]), np.array([[0, 0, 4], [3, 9, 6]]), (1, 0.5))
        >>> graph.means.ravel().tolist()
        [1.0, 5.0, 9.0]
        >>> graph.edges.tolist(), graph.areas.tolist()
        ([[0, 1], [0, 2], [1, 2]], [1.0, 1.5, 1.0])
        """
        channels = voxels if voxels.ndim == regions.ndim + 1 else voxels[None]
        if channels.shape[1:] != regions.shape or len(spacing) != regions.ndim:
            raise GeometryError(
                f"regions of shape {regions.shape}, an image of shape {voxels.shape} and {len(spacing)} voxel "
                "sizes do not lie on one grid"
            )
        flat = regions.ravel()
        if flat.size and flat.min() < 0:
            raise OptionError(f"the map of regions holds {flat.min()}: number regions 1..n, and 0 for none")
        counts = np.bincount(flat, minlength=1)
        n = len(counts) - 1
        if not counts[1:].all():
            missing = int(np.flatnonzero(counts[1:] == 0)[0]) + 1
            raise OptionError(f"the map of regions has no region {missing} of {n}: number them without gaps")
        sums = [_sums(flat, channel.ravel(), n) for channel in channels]
        squares = [_sums(flat, channel.ravel().astype(np.float64) ** 2, n) for channel in channels]
        edges, areas = faces(regions, spacing)
        return cls(counts[1:].astype(np.float64), np.stack(sums, 1), np.stack(squares, 1), edges - 1, areas)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def means(self) -> npt.NDArray[np.float64]:
        """``(n, C)`` mean intensity of each region."""
        return self.sums / self.sizes[:, None]

    @property
    def deviations(self) -> npt.NDArray[np.float64]:
        """``(n, C)`` standard deviation of the intensities in each region (population)."""
        return np.sqrt(np.maximum(self.squares / self.sizes[:, None] - self.means**2, 0))

    def contracted(self, groups: npt.NDArray[np.int64]) -> RegionAdjacency:
        """Graph of merged regions.

        Args:
            groups: ``(n,)``, node ``0..k-1`` of the new graph that each node goes to.
        """
        k = int(groups.max()) + 1 if len(groups) else 0
        channels = range(self.sums.shape[1])
        sums = np.empty((k, len(channels)))
        squares = np.empty_like(sums)
        for c in channels:
            sums[:, c] = np.bincount(groups, self.sums[:, c], k)
            squares[:, c] = np.bincount(groups, self.squares[:, c], k)
        one, other = groups[self.edges[:, 0]], groups[self.edges[:, 1]]
        outer = one != other
        one, other = one[outer], other[outer]
        low, high = np.minimum(one, other), np.maximum(one, other)
        edges, areas = _combined(low * k + high, self.areas[outer], k)
        sizes = np.bincount(groups, self.sizes, k).astype(np.float64, copy=False)
        return RegionAdjacency(sizes, sums, squares, edges, areas)


def merging_costs(graph: RegionAdjacency, criterion: Criterion = "ward") -> npt.NDArray[np.float64]:
    """Cost ``(e,)`` of merging the two regions of each edge.

    With sizes ``a``, ``b`` in voxels, and ``d`` the Euclidean distance of the mean intensities over channels:

    - ``mean``: ``d``, the oldest criterion; blind to size.
    - ``ward``: ``d^2 a b / (a + b)``, by how much the squared error of the piecewise constant volume rises.
    - ``mumford-shah``: the same for each mm^2 of boundary that disappears, which prefers compact regions; Koepfler,
      Lopez and Morel, SIAM Journal on Numerical Analysis 31(1):282-299 (1994)

    Raises:
        OptionError: there is no such criterion.
    """
    i, j = graph.edges.T
    return pair_costs(graph.sizes[i], graph.sums[i], graph.sizes[j], graph.sums[j], graph.areas, criterion)


def pair_costs(
    size_a: Any, sum_a: Any, size_b: Any, sum_b: Any, area: Any, criterion: Criterion
) -> npt.NDArray[np.float64]:
    """Costs of :func:`merging_costs` from sizes ``(m,)``, sums ``(m, C)`` and areas ``(m,)``, which broadcast."""
    if criterion not in get_args(Criterion):
        raise OptionError(
            f"no merging criterion {criterion!r}; choose one of {', '.join(get_args(Criterion))}"
        )
    size_a, size_b = np.asarray(size_a), np.asarray(size_b)
    squared = np.zeros(np.broadcast_shapes(size_a.shape, size_b.shape))
    for c in range(sum_a.shape[-1]):
        squared += (sum_a[..., c] / size_a - sum_b[..., c] / size_b) ** 2
    if criterion == "mean":
        return np.sqrt(squared)
    rise = squared * (size_a * size_b / (size_a + size_b))
    return rise if criterion == "ward" else rise / area


def faces(
    regions: npt.NDArray[np.integer[Any]], spacing: Sequence[float]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs of values that meet at a voxel face, ``(e, 2)``, rising, without 0, and their common area in mm^2."""
    base = int(regions.max(initial=0)) + 1
    keys, areas = [], []
    for axis in range(regions.ndim):
        before = np.moveaxis(regions, axis, 0)[:-1].ravel()
        after = np.moveaxis(regions, axis, 0)[1:].ravel()
        meet = np.flatnonzero((before != after) & (before > 0) & (after > 0))
        before, after = before[meet].astype(np.int64), after[meet].astype(np.int64)
        key = np.minimum(before, after) * base + np.maximum(before, after)
        key.sort()  # a plain sort is several times as fast as numpy's unique with counts
        first = np.flatnonzero(np.diff(key, prepend=-1))
        keys.append(key[first])
        areas.append(np.diff(first, append=len(key)) * float(np.prod(np.delete(spacing, axis))))
    return _combined(np.concatenate(keys), np.concatenate(areas), base)


def _sums(flat: npt.NDArray[np.integer[Any]], weights: npt.NDArray[Any], n: int) -> npt.NDArray[np.float64]:
    total: npt.NDArray[np.float64] = np.bincount(flat, weights, n + 1)[1:].astype(np.float64, copy=False)
    return total


def _combined(
    keys: npt.NDArray[np.int64], areas: npt.NDArray[np.float64], base: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Edges ``key = i * base + j``, each once, with the sum of its areas."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    total = np.add.reduceat(areas[order], first) if len(first) else np.zeros(0)
    # transposed, so that each end by itself lies in one piece
    return np.stack(np.divmod(keys[first], max(base, 1))).T, total
