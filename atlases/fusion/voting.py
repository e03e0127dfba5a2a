"""Code shared by fusion rules: voxels where atlases disagree, slabs of bounded memory, weighted votes, the result.

Where every atlas that has seen a place says the same, that is the label and no rule has work to do; the rest, a
few per cent of a scan, is taken in slabs of flat voxel indices::

    canvas = Canvas(candidates, probabilities=True)        # settled voxels are filled in already
    for indices in slabs(canvas.disputed, floats_per_voxel=len(candidates)):
        labels, inside = canvas.candidates_at(indices)     # (N, n) each
        canvas.put(indices, *weighted_vote(labels, weights, candidates.classes, inside))
    return canvas.fused()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.fusion.candidates import Candidates, Fused
from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["SLAB_BYTES", "Canvas", "disagreement", "slabs", "vote", "weighted_vote", "winners_of"]

#: Default working memory of a slab.
SLAB_BYTES = 64 * 2**20

Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]


def disagreement(candidates: Candidates) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]:
    """Voxels in dispute, and the label of all others.

    Args:
        candidates: label maps of ``N`` atlases, and where each has seen the scan.

    Returns:
        ``(*spatial)`` bool, true where two atlases that have seen the place differ; ``(*spatial)`` labels on which
        the others agree, background (0) where no atlas has seen the place, and 0 in dispute.

    >>> maps = np.array([[[[0, 1, 1]]], [[[0, 1, 2]]]], dtype=np.uint8)
    >>> disputed, agreed = disagreement(Candidates(maps, classes=3))
    >>> disputed.ravel().tolist(), agreed.ravel().tolist()
    ([False, False, True], [0, 1, 0])
    """
    if candidates.inside is None:
        agreed = candidates.labels[0].copy()
        disputed = np.zeros(agreed.shape, dtype=bool)
        for labels in candidates.labels[1:]:
            disputed |= labels != agreed
    else:
        agreed = np.zeros(candidates.spatial_shape, candidates.labels.dtype)
        seen = np.zeros(agreed.shape, dtype=bool)
        disputed = np.zeros(agreed.shape, dtype=bool)
        for labels, inside in zip(candidates.labels, candidates.inside, strict=True):
            disputed |= inside & seen & (labels != agreed)
            np.copyto(agreed, labels, where=inside & ~seen)
            seen |= inside
    agreed[disputed] = 0
    return disputed, agreed


def slabs(indices: Indices, floats_per_voxel: int, budget: int | None = None) -> Iterator[Indices]:
    """Consecutive parts of ``indices``, each small enough that the work on it fits the budget.

    Args:
        indices: ``(n,)``, flat voxel indices.
        floats_per_voxel: 4-byte numbers that the work holds at once for each voxel.
        budget: bytes; :data:`SLAB_BYTES` if not given. A slab has at least one voxel.

    >>> [part.tolist() for part in slabs(np.arange(5), floats_per_voxel=2, budget=16)]
    [[0, 1], [2, 3], [4]]
    """
    length = max(1, (SLAB_BYTES if budget is None else budget) // (4 * max(1, floats_per_voxel)))
    for start in range(0, len(indices), length):
        yield indices[start : start + length]


def weighted_vote(
    labels: npt.NDArray[Any],
    weights: Floats,
    classes: int,
    inside: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[Any], Floats]:
    """Label with the greatest sum of weights at each voxel, and each label's share.

    Weights are scaled to sum to one at each voxel; where they sum to nothing (all zero, or too small for float32)
    the atlases that have seen the place vote equally, and where none has, background has everything. Ties go to the
    lowest label.

    Args:
        labels: ``(N, n)`` channel indices.
        weights: ``(N, n)`` float32, or what broadcasts to it; finite, not negative. Not changed.
        classes: ``K``.
        inside: ``(N, n)`` bool, where an atlas may vote; ``None``: everywhere.

    Returns:
        Winners ``(n,)`` of the type of ``labels``; shares ``(K, n)`` float32 whose maximum is the winner's.

    Raises:
        OptionError: a weight is negative or not finite.

    >>> labels = np.array([[1, 2], [2, 2], [2, 0]])
    >>> winners, shares = weighted_vote(labels, np.array([[2.0], [1.0], [1.0]], np.float32), classes=3)
    >>> winners.tolist(), shares.T.tolist()
    ([1, 2], [[0.0, 0.5, 0.5], [0.25, 0.0, 0.75]])
    """
    scaled = np.array(np.broadcast_to(weights, labels.shape), dtype=np.float32)
    if not (np.isfinite(scaled).all() and (scaled >= 0).all()):
        raise OptionError("fusion weights must be finite and at least 0: the images may hold NaN or infinity")
    if inside is not None:
        scaled *= inside
    # scaled by the largest first, so that neither very large nor very small weights leave float32
    largest = scaled.max(axis=0)
    usable = largest >= np.finfo(np.float32).tiny
    np.divide(scaled, largest, out=scaled, where=usable)
    if not usable.all():
        scaled[:, ~usable] = 1.0 if inside is None else inside[:, ~usable]
    total = scaled.sum(axis=0)
    np.divide(scaled, total, out=scaled, where=total > 0)
    shares = np.zeros((classes, labels.shape[1]), dtype=np.float32)
    voxels = np.arange(labels.shape[1])
    for label, weight in zip(labels, scaled, strict=True):
        shares[label, voxels] += weight  # a voxel occurs once for each atlas, so nothing is lost
    shares[0, total == 0] = 1.0
    return winners_of(shares, labels.dtype), shares


def winners_of(scores: Floats, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Row of the greatest score in each column of ``(K, n)``, the lowest of equals.

    As ``scores.argmax(0)``, which copies the whole array to walk it the other way.
    """
    best = scores[0].copy()
    winners = np.zeros(best.shape, dtype=dtype)
    for label in range(1, len(scores)):
        winners[scores[label] > best] = label
        np.maximum(best, scores[label], out=best)
    return winners


class Canvas:
    """The segmentation that a rule works on: settled voxels are filled in, disputed ones are put in slab by slab.

    Memory: one label map; and one array ``(K, *spatial)`` float32 if probabilities are wanted, none otherwise.

    Args:
        candidates: what is fused.
        probabilities: whether they are wanted.

    Attributes:
        mask: ``(*spatial)`` bool, voxels in dispute.
        disputed: ``(n,)``, their flat indices, ascending.
    """

    def __init__(self, candidates: Candidates, probabilities: bool) -> None:
        self.mask, self._labels = disagreement(candidates)
        self.disputed: Indices = np.flatnonzero(self.mask)
        count = len(candidates)
        self._candidates = candidates.labels.reshape(count, -1)
        self._inside = None if candidates.inside is None else candidates.inside.reshape(count, -1)
        self._probabilities: Floats | None = None
        if probabilities:
            self._probabilities = np.empty((candidates.classes, *candidates.spatial_shape), dtype=np.float32)
            for label, plane in enumerate(self._probabilities):
                np.equal(self._labels, label, out=plane)

    def candidates_at(self, indices: Indices) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """Labels ``(N, n)`` at flat indices, and whether each atlas has seen the place (``None``: all have)."""
        return self._candidates[:, indices], None if self._inside is None else self._inside[:, indices]

    def put(self, indices: Indices, winners: npt.NDArray[Any], shares: Floats | None = None) -> None:
        """Write what was decided at flat indices.

        Args:
            indices: ``(n,)``.
            winners: ``(n,)`` labels.
            shares: ``(K, n)`` float32, sums to one over ``K``; needed only where probabilities are wanted.

        Raises:
            GeometryError: probabilities are wanted and there are none, or not of every class.
        """
        self._labels.reshape(-1)[indices] = winners
        if self._probabilities is None:
            return
        if shares is None or shares.shape != (len(self._probabilities), len(indices)):
            found = "none" if shares is None else f"shape {shares.shape}"
            raise GeometryError(
                f"expected probabilities of shape {(len(self._probabilities), len(indices))}, found {found}"
            )
        # plane by plane: assigning through two index arrays at once is several times slower
        for plane, share in zip(self._probabilities.reshape(len(shares), -1), shares, strict=True):
            plane[indices] = share

    def fused(self, details: dict[str, Any] | None = None) -> Fused:
        """The result, once every disputed voxel has been put in."""
        return Fused(self._labels, self._probabilities, details)


def vote(
    candidates: Candidates,
    weigh: Callable[[Indices], Floats],
    *,
    probabilities: bool,
    canvas: Canvas | None = None,
    floats_per_voxel: int = 0,
    details: dict[str, Any] | None = None,
) -> Fused:
    """Weighted voting, slab by slab; a fusion rule only provides the weights.

    Args:
        candidates: what is fused.
        weigh: flat indices ``(n,)`` of disputed voxels -> weights ``(N, n)`` or ``(N, 1)``, not negative.
        probabilities: whether they are wanted.
        canvas: made before with the same arguments, by a rule that needs to know what is in dispute.
        floats_per_voxel: 4-byte numbers that ``weigh`` holds for each voxel besides the weights.
        details: what the rule found out besides.
    """
    canvas = Canvas(candidates, probabilities) if canvas is None else canvas
    work = floats_per_voxel + 4 * len(candidates) + candidates.classes + 4
    for indices in slabs(canvas.disputed, work):
        labels, inside = canvas.candidates_at(indices)
        canvas.put(indices, *weighted_vote(labels, weigh(indices), candidates.classes, inside))
    return canvas.fused(details)
