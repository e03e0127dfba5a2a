"""Minimum of a Potts energy by graph cuts: exact for two labels, alpha expansion for more."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.fields.potts import Labels, PottsEnergy, iterated_conditional_modes

__all__ = ["alpha_expansion", "expand", "two_labels"]

Index = npt.NDArray[np.intp]

#: Status of a voxel in an expansion move: it keeps its label, takes the new one, or the cut decides.
KEEPS, TAKES, OPEN = 0, 1, 2
#: Voxels are settled one by one as long as a sweep settles this share of them; the cut does the rest.
WORTH_A_SWEEP = 0.01
#: scipy's flows are 32-bit; if all capacities of the source are less, nothing can overflow.
LARGEST_FLOW = 2**31 - 1


def alpha_expansion(energy: PottsEnergy, labels: Labels | None = None, *, max_cycles: int = 10) -> Labels:
    """Let one label after the other take the best possible set of voxels, until none gains.

    Boykov, Veksler and Zabih, IEEE Transactions on Pattern Analysis and Machine Intelligence 23(11):1222-1239 (2001),
    https://doi.org/10.1109/34.969114. The energy never rises, and ends at no more than twice the smallest possible.
    For two labels :func:`two_labels` finds the smallest.

    Args:
        energy: to lower.
        labels: ``(N,)``, where to begin; by default where iterated conditional modes end. Not changed.
        max_cycles: over all labels, at most.

    Returns:
        ``(N,)`` labels.
    """
    if labels is None:
        labels = iterated_conditional_modes(energy, energy.cheapest())
    around = energy.all_faces()
    idle = 0
    for move in range(max_cycles * energy.classes):
        labels, changed = expand(energy, labels, move % energy.classes, around)
        idle = 0 if changed else idle + 1
        if idle >= energy.classes:
            break
    return labels


def two_labels(energy: PottsEnergy) -> Labels:
    """The labelling of smallest energy where there are two labels: one minimum cut.

    Greig, Porteous and Seheult, Journal of the Royal Statistical Society B 51(2):271-279 (1989).
    """
    return expand(energy, np.zeros(energy.costs.shape[1], dtype=np.int32), 1)[0]


def expand(
    energy: PottsEnergy, labels: Labels, alpha: int, around: npt.NDArray[np.int32] | None = None
) -> tuple[Labels, int]:
    """The best labelling that can be reached by giving any set of voxels the label ``alpha``.

    Most voxels are settled without a cut: where ``alpha`` is better or worse than the present label whatever its
    undecided neighbours do, it is so in the best labelling. Those settled settle others. What is left is cut by
    Dinic's algorithm (:func:`scipy.sparse.csgraph.maximum_flow`), with the graph of Kolmogorov and Zabih, IEEE TPAMI
    26(2):147-159 (2004), https://doi.org/10.1109/TPAMI.2004.1262177. Of equally good labellings the one is chosen that
    changes the fewest voxels.

    Args:
        energy: to lower.
        labels: ``(N,)``; not changed.
        alpha: the label that may spread.
        around: ``energy.all_faces()``, if it is at hand.

    Returns:
        ``(N,)`` labels and the number of voxels that changed.
    """
    around = energy.all_faces() if around is None else around
    at = energy.inside[labels[energy.inside] != alpha]
    gain = energy.costs[alpha, at] - energy.costs[labels[at], at]
    status = np.zeros(labels.size, dtype=np.int8)
    possible = gain < around[at]
    at, gain = at[possible], gain[possible]
    status[at] = OPEN
    at, gain = _settle(energy, labels, alpha, status, at, gain)
    if len(at):
        status[at] = np.where(_cut(energy, labels, alpha, status, at, gain), TAKES, KEEPS)
    taken = np.flatnonzero(status == TAKES)
    new = labels.copy()
    new[taken] = alpha
    return new, len(taken)


def _settle(
    energy: PottsEnergy,
    labels: Labels,
    alpha: int,
    status: npt.NDArray[np.int8],
    at: Index,
    gain: npt.NDArray[np.int32],
) -> tuple[Index, npt.NDArray[np.int32]]:
    """Mark in ``status`` the voxels decided without a cut; returns the undecided ones and their costs of changing.

    Args:
        energy: of the labelling.
        labels: ``(N,)``.
        alpha: the label that may spread.
        status: ``(N,)``.
        at: open voxels.
        gain: for each, what ``alpha`` costs more than the present label, faces apart.
    """
    while len(at):
        least, most = gain.copy(), gain.copy()
        old = labels[at]
        for neighbour, weight in energy.faces(at):
            state, beside = status[neighbour], labels[neighbour]
            change = _face_change(weight, old, beside, state, alpha)
            least += np.where(state == OPEN, -weight, change)
            most += np.where(state == OPEN, np.where(beside == old, weight, 0), change)
        keeps, takes = least >= 0, most < 0
        status[at[keeps]] = KEEPS
        status[at[takes & ~keeps]] = TAKES
        still = ~(keeps | takes)
        settled = len(at) - int(still.sum())
        at, gain = at[still], gain[still]
        if settled < WORTH_A_SWEEP * (len(at) + settled):
            break
    return at, gain


def _face_change(
    weight: npt.NDArray[np.int32],
    old: Labels,
    beside: Labels,
    state: npt.NDArray[np.int8],
    alpha: int,
) -> npt.NDArray[Any]:
    """What it costs at a face with a settled neighbour to go from ``old`` to ``alpha``."""
    settled = np.where(state == TAKES, alpha, beside)
    return weight * ((settled != alpha).astype(np.int32) - (settled != old))


def _cut(
    energy: PottsEnergy,
    labels: Labels,
    alpha: int,
    status: npt.NDArray[np.int8],
    at: Index,
    gain: npt.NDArray[np.int32],
) -> npt.NDArray[np.bool_]:
    """Which of the open voxels take ``alpha`` in the best labelling."""
    number = np.full(labels.size, -1, dtype=np.int32)
    number[at] = np.arange(len(at), dtype=np.int32)
    unary = gain.astype(np.int64)
    heads, tails, capacities = [], [], []
    for direction, (neighbour, weight) in enumerate(energy.faces(at)):
        is_open = status[neighbour] == OPEN
        change = _face_change(weight, labels[at], labels[neighbour], status[neighbour], alpha)
        unary += np.where(is_open, 0, change)
        if direction % 2:  # each face between open voxels once
            continue
        p = np.flatnonzero(is_open & (weight > 0))
        q, between = number[neighbour[p]], weight[p]
        same = labels[at[p]] == labels[neighbour[p]]
        # labels that differ now do so unless both change: the face is free if q changes, but not if p does not
        np.subtract.at(unary, q[~same], between[~same])
        heads += [p, q[same]]
        tails += [q, p[same]]
        capacities += [between, between[same]]
    return minimum_cut(unary, np.concatenate(heads), np.concatenate(tails), np.concatenate(capacities))


def minimum_cut(
    unary: npt.NDArray[np.int64], heads: Index, tails: Index, capacities: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """The ``x`` of 0s and 1s for which ``sum unary * x + sum capacities * (1 - x[heads]) * x[tails]`` is smallest.

    Of equally good ones that with the fewest 1s. If the capacities are too large for 32-bit flows, they are divided
    until they fit, and the minimum is one of the rounded energy.

    Args:
        unary: ``(n,)``.
        heads: ``(m,)`` indices into ``x``; no pair occurs twice.
        tails: ``(m,)``.
        capacities: ``(m,)``, not negative.

    >>> minimum_cut(np.array([-5, 3, 3]), np.array([1, 2]), np.array([0, 1]), np.array([4, 4])).astype(int).tolist()
    [1, 0, 0]
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    n = len(unary)
    source, sink = n, n + 1
    least = min(int(unary[unary > 0].sum()), int(-unary[unary < 0].sum()))
    divisor = max(1, -(-least // LARGEST_FLOW))
    if divisor > 1:
        unary, capacities = unary // divisor, capacities // divisor
    costly, cheap = np.flatnonzero(unary > 0), np.flatnonzero(unary < 0)
    values = np.concatenate([unary[costly], -unary[cheap], capacities]).astype(np.int32)
    begins = np.concatenate([np.full(len(costly), source), cheap, heads]).astype(np.int32)
    ends = np.concatenate([costly, np.full(len(cheap), sink), tails]).astype(np.int32)
    graph = csr_array((values, (begins, ends)), shape=(n + 2, n + 2))
    flow = maximum_flow(graph, source, sink, method="dinic").flow
    residual = csr_array(graph - flow)
    residual.eliminate_zeros()
    reached = np.zeros(n + 2, dtype=bool)
    reached[breadth_first_order(csr_array(residual.T), sink, return_predecessors=False)] = True
    return reached[:n]
