"""Merging of the regions of a graph, cheapest pair first: exactly by a priority queue, or in vectorised rounds."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.regions.region_adjacency import (
    Criterion,
    RegionAdjacency,
    merging_costs,
    pair_costs,
)
from atlaseg.pipeline.errors import OptionError

__all__ = ["Hierarchy", "merge", "merge_greedily", "merge_in_rounds", "number_of_regions"]

#: Rounds look at no more than this share of regions, those with the cheapest best neighbour.
ROUND_SHARE = 0.5
#: A round that would merge less than this share of the regions it looks at takes all their best edges instead.
SLOW_ROUND = 0.05
#: Odd, so that multiplication by it modulo 2^64 is one to one (Knuth's multiplicative hashing, golden ratio).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Every merging of ``n`` regions in order, so that any number of regions can be had afterwards.

    As in :mod:`scipy.cluster.hierarchy`, the regions are ``0..n-1`` and merging ``t`` makes region ``n + t``.

    Args:
        leaves: ``n``.
        pairs: ``(m, 2)`` int64, the regions that are merged, the lower number first.
        costs: ``(m,)`` float64; they need not rise, because merging makes new neighbours.
    """

    leaves: int
    pairs: npt.NDArray[np.int64]
    costs: npt.NDArray[np.float64]

    def cut(self, *, regions: int = 1, limit: float = np.inf) -> npt.NDArray[np.int64]:
        """Group ``0..k-1`` of each region, ``(n,)``, numbered by their first members.

        Args:
            regions: stop at this number of groups; there are more where the hierarchy ends before.
            limit: stop before the first merging that costs more.

        >>> tree = Hierarchy(3, np.array([[0, 2], [1, 3]]), np.array([0.5, 2.0]))
        >>> tree.cut(regions=2).tolist(), tree.cut(limit=1.0).tolist(), tree.cut().tolist()
        ([0, 1, 0], [0, 1, 0], [0, 0, 0])
        """
        dear = np.flatnonzero(self.costs > limit)
        steps = min([len(self.pairs), max(self.leaves - regions, 0), *dear[:1]])
        root = np.arange(self.leaves + steps)
        root[self.pairs[:steps].ravel()] = np.repeat(np.arange(self.leaves, self.leaves + steps), 2)
        return _numbered(_roots(root, np.arange(self.leaves)))


def number_of_regions(mask: npt.NDArray[np.bool_], region_size: float) -> int:
    """Number of regions of a mean size in voxels that fill a mask; at least one.

    Raises:
        OptionError: the size is below 1.

    >>> number_of_regions(np.ones((4, 5, 5), bool), 30)
    3
    """
    if not region_size >= 1:
        raise OptionError(f"regions of {region_size} voxels are not possible: ask for 1 or more")
    return max(1, round(int(mask.sum()) / region_size))


def merge(
    graph: RegionAdjacency,
    *,
    criterion: Criterion = "ward",
    regions: int = 1,
    limit: float = np.inf,
    exact: int = 20_000,
) -> npt.NDArray[np.int64]:
    """Merge neighbours until a number of regions is left or every merging costs too much.

    From many regions, rounds of :func:`merge_in_rounds` first make ``exact`` of them, and the priority queue of
    :func:`merge_greedily` does the rest: time is bounded, and the last mergings, which one sees, are the exact ones.

    Args:
        graph: regions and their neighbours.
        criterion: see :func:`atlaseg.pipeline.classical.regions.region_adjacency.merging_costs`.
        regions: stop at this number; there are more if parts of the graph do not touch.
        limit: never merge at a cost above this.
        exact: regions that the priority queue takes on.

    Returns:
        ``(n,)`` int64, group ``0..k-1`` of each region, numbered by their first members.

    Raises:
        OptionError: ``regions`` is below 1, or there is no such criterion.
    """
    if regions < 1:
        raise OptionError(f"cannot merge until {regions} regions are left: ask for 1 or more")
    groups = np.arange(len(graph))
    if len(graph) > max(exact, regions):
        groups = merge_in_rounds(graph, criterion=criterion, regions=max(exact, regions), limit=limit)
        graph = graph.contracted(groups)
    tree = merge_greedily(graph, criterion=criterion, regions=regions, limit=limit)
    return tree.cut(regions=regions, limit=limit)[groups]


def merge_greedily(
    graph: RegionAdjacency, *, criterion: Criterion = "ward", regions: int = 1, limit: float = np.inf
) -> Hierarchy:
    """Merge the cheapest pair of neighbours, again and again; of equals, the pair with the lower numbers.

    The queue holds one entry for each region, a lower bound of the cost to its cheapest older neighbour, that is
    looked at again only when it comes up: the generic algorithm of Müllner, "Modern hierarchical, agglomerative
    clustering algorithms" (2011), https://arxiv.org/abs/1109.2378, for neighbours instead of all pairs. So a region
    with thousands of neighbours costs one vectorised pass for each merging, not thousands of entries.

    Args:
        graph: regions and their neighbours.
        criterion: see :func:`atlaseg.pipeline.classical.regions.region_adjacency.merging_costs`.
        regions: stop at this number.
        limit: stop before the first merging that costs more.

    Returns:
        The mergings; fewer than asked for if parts of the graph do not touch.
    """
    queue = _Queue(graph, criterion)
    pairs: list[tuple[int, int]] = []
    costs: list[float] = []
    while len(graph) - len(pairs) > regions:
        cheapest = queue.cheapest()
        if cheapest is None or cheapest[0] > limit:
            break
        cost, i, j = cheapest
        queue.merge(i, j)
        pairs.append((i, j))
        costs.append(cost)
    return Hierarchy(
        len(graph), np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(costs, dtype=np.float64)
    )


class _Queue:
    """Regions under merging. An edge belongs to the younger of its two regions, the one with the higher number."""

    def __init__(self, graph: RegionAdjacency, criterion: Criterion) -> None:
        n, most = len(graph), max(2 * len(graph) - 1, 0)
        self._criterion = criterion
        self._sizes = np.ones(most)
        self._sums = np.zeros((most, graph.sums.shape[1]))
        self._sizes[:n], self._sums[:n] = graph.sizes, graph.sums
        self._root = np.arange(most)
        self._next = n
        both = np.concatenate([graph.edges, graph.edges[:, ::-1]])
        order = np.argsort(both[:, 0], kind="stable")
        cuts = np.searchsorted(both[order, 0], np.arange(1, n))
        #: neighbours when they were last looked at; those that have been merged since are found by their roots
        self._neighbours = np.split(both[order, 1], cuts) if n else []
        self._areas = np.split(np.tile(graph.areas, 2)[order], cuts) if n else []
        costs = merging_costs(graph, criterion)
        older, younger = graph.edges.T
        best = np.lexsort((older, costs, younger))
        best = best[np.flatnonzero(np.diff(younger[best], prepend=-1))]
        self._heap = list(
            zip(costs[best].tolist(), older[best].tolist(), younger[best].tolist(), strict=True)
        )
        heapq.heapify(self._heap)

    def cheapest(self) -> tuple[float, int, int] | None:
        """Cost, older and younger region of the best edge, taken off the queue; ``None`` if there is no edge."""
        while self._heap:
            cost, older, younger = heapq.heappop(self._heap)
            if self._root[younger] != younger:
                continue
            if self._root[older] == older:
                return cost, older, younger
            self._push(younger)  # its best neighbour is gone; the others can only cost as much or more
        return None

    def merge(self, i: int, j: int) -> None:
        """Make a new region of two."""
        new = self._next
        self._next += 1
        self._sizes[new] = self._sizes[i] + self._sizes[j]
        self._sums[new] = self._sums[i] + self._sums[j]
        self._root[[i, j]] = new
        found = _roots(self._root, np.concatenate([self._neighbours[i], self._neighbours[j]]))
        areas = np.concatenate([self._areas[i], self._areas[j]])
        order = np.argsort(found, kind="stable")
        found, areas = found[order], areas[order]
        first = np.flatnonzero((np.diff(found, prepend=-1) != 0) & (found != new))
        ends = np.flatnonzero((np.diff(found, append=-1) != 0) & (found != new)) + 1
        running = np.concatenate([[0.0], np.cumsum(areas)])
        self._neighbours.append(found[first])
        self._areas.append(running[ends] - running[first])
        self._neighbours[i] = self._neighbours[j] = self._areas[i] = self._areas[j] = np.zeros(0)
        self._push(new)

    def _push(self, younger: int) -> None:
        older = self._neighbours[younger]
        mine = np.flatnonzero((older < younger) & (self._root[older] == older))
        if not len(mine):
            return
        older = older[mine]
        costs = pair_costs(
            self._sizes[older],
            self._sums[older],
            self._sizes[younger],
            self._sums[younger],
            self._areas[younger][mine],
            self._criterion,
        )
        best = int(np.argmin(costs))  # neighbours rise, so the first of equals is the lowest
        heapq.heappush(self._heap, (float(costs[best]), int(older[best]), younger))


def merge_in_rounds(
    graph: RegionAdjacency, *, criterion: Criterion = "ward", regions: int = 1, limit: float = np.inf
) -> npt.NDArray[np.int64]:
    """Merge, in each round, all pairs of which each is the other's cheapest neighbour: vectorised, for millions.

    A round looks at the cheaper half of the regions only, which keeps close to the greedy order. Rounds are bounded:
    one that finds few mutual pairs merges each region with its cheapest neighbour (Borůvka's algorithm), which halves
    the regions that it looks at.

    Args:
        graph: regions and their neighbours.
        criterion: see :func:`atlaseg.pipeline.classical.regions.region_adjacency.merging_costs`.
        regions: stop at this number.
        limit: never merge at a cost above this.

    Returns:
        ``(n,)`` int64, group ``0..k-1`` of each region, numbered by their first members.
    """
    groups = np.arange(len(graph))
    while len(graph) > regions:
        costs = merging_costs(graph, criterion)
        chosen = _round(graph, costs, limit)
        if not len(chosen):
            break
        excess = len(graph) - regions
        if len(chosen) > excess:
            chosen = chosen[np.argsort(costs[chosen], kind="stable")[:excess]]
        step = _components(len(graph), graph.edges[chosen])
        groups, graph = step[groups], graph.contracted(step)
    return _numbered(groups)


def _round(graph: RegionAdjacency, costs: npt.NDArray[np.float64], limit: float) -> npt.NDArray[np.int64]:
    """Edges to merge at once; they form no cycle, since (cost, rank) is different for each."""
    i, j = graph.edges.T
    cheapest = np.full(len(graph), np.inf)
    np.minimum.at(cheapest, i, costs)
    np.minimum.at(cheapest, j, costs)
    finite = cheapest[cheapest <= limit]
    if not len(finite):
        return np.zeros(0, dtype=np.int64)
    limit = float(np.quantile(finite, ROUND_SHARE, method="higher"))
    looked_at = int((finite <= limit).sum())
    # equal costs (a constant background) are ranked as if by chance: by position, few would be mutual
    edges = np.flatnonzero(costs <= limit)
    rank = edges.astype(np.uint64) * _GOLDEN
    i, j, costs = i[edges], j[edges], costs[edges]
    best_i, best_j = costs == cheapest[i], costs == cheapest[j]
    lowest = np.full(len(graph), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, i[best_i], rank[best_i])
    np.minimum.at(lowest, j[best_j], rank[best_j])
    best_i &= rank == lowest[i]
    best_j &= rank == lowest[j]
    mutual = edges[best_i & best_j]
    return edges[best_i | best_j] if len(mutual) < SLOW_ROUND * looked_at else mutual


def _components(n: int, edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    return connected_components(links, directed=False)[1].astype(np.int64)


def _roots(root: npt.NDArray[np.int64], nodes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each node has gone to in the end."""
    found = root[nodes]
    while True:
        further = root[found]
        if np.array_equal(further, found):
            break
        found = further
    root[nodes] = found
    return found


def _numbered(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The same groups, numbered ``0..k-1`` by their first members."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
