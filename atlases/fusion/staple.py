"""STAPLE: the true segmentation and the performance of each atlas, estimated together."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.fusion.candidates import Candidates, Fused
from atlaseg.atlases.fusion.voting import SLAB_BYTES, Canvas, slabs, winners_of
from atlaseg.pipeline.errors import NotConvergedWarning, OptionError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Patterns", "Staple"]

Region = Literal["disagreement", "all"]
PriorKind = Literal["frequency", "votes", "estimated"]
Floats = npt.NDArray[np.float64]

#: Probabilities below this count as this, so that logarithms stay finite.
TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Staple:
    """Expectation maximisation of the true labels and of how often each atlas calls label ``s`` label ``j``.

    Warfield, Zou and Wells, "Simultaneous truth and performance level estimation (STAPLE)", IEEE Transactions on
    Medical Imaging 23(7):903-921 (2004), https://doi.org/10.1109/TMI.2004.828354, with one ``K`` x ``K`` matrix of
    performance for each atlas, background a label like any other. Needs no images. An atlas says nothing where it
    has not seen the scan.

    Voxels with the same votes have the same posterior: they are counted once and work is done for each *pattern* of
    votes, so that the cost of an iteration hardly depends on the number of voxels, and nothing is approximated.

    Args:
        region: ``disagreement`` estimates performance from the voxels on which the atlases differ; what they agree
            on is settled. ``all`` is the paper's: every voxel counts, and where background fills most of the scan
            the atlases all look nearly perfect there. The two give different estimates (Rohlfing, Russakoff and
            Maurer, IEEE TMI 23(8):983-994 (2004), https://doi.org/10.1109/TMI.2004.830803, discuss the former).
        prior: probability of each label before the votes of a voxel are seen. ``frequency``: its share of all votes
            in the region, the same everywhere; ``votes``: its share of the votes at the voxel, which keeps rare
            structures but uses the votes twice; ``estimated``: begins as ``frequency`` and is estimated with the rest.
        initial: probability that an atlas is right, where the estimation begins; the rest is spread evenly.
        tolerance: done when no entry of a performance matrix changes by more.
        max_iterations: done at the latest after so many.

    Raises:
        OptionError: an option is not one that is offered.

    >>> maps = np.array([[[[0, 1, 1, 0]]], [[[0, 1, 0, 0]]], [[[0, 1, 1, 1]]]], dtype=np.uint8)
    >>> fused = Staple().fuse(Candidates(maps, classes=2))
    >>> fused.labels.ravel().tolist()
    [0, 1, 1, 0]
    """

    region: Region = "disagreement"
    prior: PriorKind = "frequency"
    initial: float = 0.99999
    tolerance: float = 1e-5
    max_iterations: int = 200

    def __post_init__(self) -> None:
        for name, value, offered in (
            ("region", self.region, get_args(Region)),
            ("prior", self.prior, get_args(PriorKind)),
        ):
            if value not in offered:
                raise OptionError(f"staple has no {name} {value!r}; choose one of {', '.join(offered)}")
        if not 0.5 < self.initial < 1:
            raise OptionError(f"staple: initial must lie between 0.5 and 1, found {self.initial:g}")
        if not self.tolerance > 0 or self.max_iterations < 1:
            raise OptionError(
                "staple: tolerance must be more than 0 and max_iterations at least 1, found "
                f"{self.tolerance:g} and {self.max_iterations}"
            )

    def fuse(self, candidates: Candidates, *, probabilities: bool = True) -> Fused:
        """Labels, posterior probabilities if asked for, and the performance of each atlas.

        ``details`` holds ``performance``, ``(N, K, K)`` nested lists, ``[atlas][true label][vote]``, rows sum to
        one; ``log_likelihood`` after each iteration, natural logarithm; ``iterations``; ``converged``.

        Warns:
            NotConvergedWarning: the iterations were over before the performance stood still.
        """
        canvas = Canvas(candidates, probabilities)
        patterns = Patterns.of(candidates, canvas.mask if self.region == "disagreement" else None)
        estimate = self._estimate(patterns)
        # in blocks: the posterior of every pattern at once may be larger than the scan
        winners = np.empty(len(patterns), dtype=candidates.labels.dtype)
        posterior = np.empty((candidates.classes if probabilities else 0, len(patterns)), dtype=np.float32)
        for block in patterns.blocks():
            share = np.ascontiguousarray(self._e_step(patterns, block, estimate)[0].T, dtype=np.float32)
            winners[block] = winners_of(share, candidates.labels.dtype)
            posterior[:, block] = share if probabilities else 0
        for part in slabs(np.arange(len(patterns.voxels)), candidates.classes + 4):
            at = patterns.pattern_of[part]
            canvas.put(patterns.voxels[part], winners[at], posterior[:, at] if probabilities else None)
        return canvas.fused(estimate.details())

    def _estimate(self, patterns: Patterns) -> _Estimate:
        """Alternate the two steps until the performance stands still."""
        estimate = _Estimate(self._beginning(patterns.atlases, patterns.classes), patterns.frequencies(), [])
        while len(estimate.log_likelihood) < self.max_iterations and not estimate.converged:
            votes, truth = np.zeros_like(estimate.performance), np.zeros_like(estimate.frequencies)
            log_likelihood = 0.0
            for block in patterns.blocks():
                posterior, evidence = self._e_step(patterns, block, estimate)
                counts = patterns.counts[block]
                weighted = posterior * counts[:, None]
                votes += patterns.votes[block].T @ weighted
                truth += weighted.sum(axis=0)
                log_likelihood += float(counts @ evidence)
            estimate = self._m_step(votes, truth, estimate, log_likelihood)
        if not estimate.converged:
            warnings.warn(
                f"staple has not converged in {self.max_iterations} iterations: the performance of a label map still "
                f"changes by more than tolerance={self.tolerance:g}; raise max_iterations, or doubt the result",
                NotConvergedWarning,
                stacklevel=2,
            )
        return estimate

    def _beginning(self, atlases: int, classes: int) -> Floats:
        one = np.full((classes, classes), (1 - self.initial) / max(classes - 1, 1))
        np.fill_diagonal(one, self.initial)
        return np.tile(one, (atlases, 1))

    def _e_step(self, patterns: Patterns, block: slice, estimate: _Estimate) -> tuple[Floats, Floats]:
        """Posterior ``(P, K)`` of the true label given a pattern of votes, and each pattern's log evidence."""
        prior = patterns.shares(block) if self.prior == "votes" else estimate.frequencies
        joint: Floats = patterns.votes[block] @ np.log(np.maximum(estimate.performance, TINY))
        joint += np.log(np.maximum(prior, TINY))
        largest = joint.max(axis=1, keepdims=True)
        posterior = np.exp(joint - largest)
        total = posterior.sum(axis=1, keepdims=True)
        posterior /= total
        return posterior, (largest + np.log(total))[:, 0]

    def _m_step(self, votes: Floats, truth: Floats, before: _Estimate, log_likelihood: float) -> _Estimate:
        """Parameters of maximum likelihood given the expected counts.

        Args:
            votes: ``(N * K votes, K true)`` expected voxels.
            truth: ``(K,)`` expected voxels.
            before: the estimate that the counts were made with.
            log_likelihood: of it.
        """
        classes = len(truth)
        old = before.performance.reshape(-1, classes, classes)
        counts = votes.reshape(old.shape)
        weight = counts.sum(axis=1, keepdims=True)
        # of a label that is nowhere true nothing is learned
        new = np.where(weight > 0, counts / np.where(weight > 0, weight, 1), old)
        estimated = self.prior == "estimated" and truth.sum() > 0
        return _Estimate(
            new.reshape(votes.shape),
            truth / truth.sum() if estimated else before.frequencies,
            [*before.log_likelihood, log_likelihood],
            float(np.abs(new - old).max(initial=0)) <= self.tolerance,
        )


@dataclass(frozen=True, eq=False)
class _Estimate:
    """Performance ``(N * K votes, K true)``, label frequencies ``(K,)``, and how they were come by."""

    performance: Floats
    frequencies: Floats
    log_likelihood: list[float]
    converged: bool = False

    def details(self) -> dict[str, Any]:
        classes = self.performance.shape[1]
        return {
            "performance": self.performance.reshape(-1, classes, classes).transpose(0, 2, 1).tolist(),
            "log_likelihood": self.log_likelihood,
            "iterations": len(self.log_likelihood),
            "converged": self.converged,
        }


@dataclass(frozen=True, eq=False)
class Patterns:
    """The different combinations of votes that occur, and where.

    Args:
        votes: ``(P, N * K)`` sparse, 1 where an atlas of the pattern votes for a label; an atlas that has not seen
            the place has none.
        counts: ``(P,)`` voxels of each pattern.
        voxels: ``(V,)`` flat indices of the voxels.
        pattern_of: ``(V,)`` which pattern each has.
        atlases: ``N``.
        classes: ``K``.
    """

    votes: csr_array
    counts: Floats
    voxels: npt.NDArray[np.intp]
    pattern_of: npt.NDArray[np.intp]
    atlases: int
    classes: int

    @classmethod
    def of(cls, candidates: Candidates, where: npt.NDArray[np.bool_] | None = None) -> Patterns:
        """Patterns of the voxels in ``where``, ``(*spatial)``, or of all that any atlas has seen."""
        from scipy.sparse import csr_array

        mask = where if where is not None else _seen(candidates)
        voxels, symbols, pattern_of, counts = _group(candidates, mask)
        atlases, classes = len(candidates), candidates.classes
        cast = symbols < classes
        columns = symbols.astype(np.int64) + classes * np.arange(atlases)
        starts = np.concatenate([[0], np.cumsum(cast.sum(axis=1))])
        votes = csr_array(
            (np.ones(int(starts[-1])), columns[cast], starts), shape=(len(symbols), atlases * classes)
        )
        return cls(votes, counts.astype(np.float64), voxels, pattern_of, atlases, classes)

    def __len__(self) -> int:
        return len(self.counts)

    def blocks(self) -> Iterator[slice]:
        """Consecutive patterns, few enough for the work on them to fit in memory."""
        length = max(1, SLAB_BYTES // (8 * 4 * self.classes))
        for start in range(0, len(self), length):
            yield slice(start, min(start + length, len(self)))

    def frequencies(self) -> Floats:
        """Share of each label ``(K,)`` in all votes."""
        ballots = np.asarray(self.counts @ self.votes).reshape(self.atlases, self.classes).sum(axis=0)
        return ballots / max(ballots.sum(), 1.0)

    def shares(self, block: slice) -> Floats:
        """Share of each label in the votes of each pattern, ``(P, K)``."""
        votes = self.votes[block]
        cells = np.repeat(np.arange(votes.shape[0]) * self.classes, np.diff(votes.indptr))
        cells += votes.indices % self.classes
        ballots = np.bincount(cells, minlength=votes.shape[0] * self.classes).reshape(-1, self.classes)
        # every pattern has a vote: places that no atlas has seen are left out
        return ballots / ballots.sum(axis=1, keepdims=True)


def _seen(candidates: Candidates) -> npt.NDArray[np.bool_]:
    if candidates.inside is None:
        return np.ones(candidates.spatial_shape, dtype=bool)
    return np.logical_or.reduce(candidates.inside, axis=0)


def _group(
    candidates: Candidates, mask: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[Any], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Flat voxel indices, patterns ``(P, N)`` (``K`` for no vote), the pattern of each voxel, voxels of each."""
    classes = candidates.classes
    voxels = np.flatnonzero(mask)
    flat = candidates.labels.reshape(len(candidates), -1)
    inside = None if candidates.inside is None else candidates.inside.reshape(len(candidates), -1)
    code = np.zeros(len(voxels), dtype=np.int64)
    size = 1
    for atlas, labels in enumerate(flat):
        if size > np.iinfo(np.int64).max // (classes + 1):
            # as many numbers as there are different beginnings, so that the code never overflows
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
            size = int(code.max(initial=0)) + 1
        symbol = labels[voxels].astype(np.int64)
        if inside is not None:
            symbol[~inside[atlas, voxels]] = classes
        code = code * (classes + 1) + symbol
        size *= classes + 1
    _, first, pattern_of, counts = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    places = voxels[first]
    symbols = flat[:, places].T.astype(np.int64)
    if inside is not None:
        symbols[~inside[:, places].T] = classes
    return voxels, symbols, pattern_of, counts
