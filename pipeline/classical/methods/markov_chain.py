"""Hidden Markov chain along a space-filling curve: each voxel's class depends on that of the voxel before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.fields.hidden_chain import Chain
from atlaseg.pipeline.classical.fields.hilbert import hilbert_path
from atlaseg.pipeline.classical.methods.gmm import Mixture, fit_mixture, maximise, variance_floor
from atlaseg.pipeline.classical.samples import BLOCK_ROWS, rows, voxels_inside
from atlaseg.pipeline.classical.scan import Classes, Scan
from atlaseg.pipeline.errors import OptionError

__all__ = ["ChainModel", "MarkovChainOptions", "curve_inside", "fit_chain", "markov_chain"]

Floats = npt.NDArray[np.float64]
Estimation = Literal["em", "stochastic-em"]
Decision = Literal["mpm", "viterbi"]

#: Where the curve leaves the mask, it continues at the point of re-entry if that is no further away, in voxels.
LONGEST_JUMP = 3
#: Length of the pieces of the curve that the chain is fitted to: many small ones show more of the volume.
PIECE = 1024
#: Probability of staying in a class, where estimation begins.
FIRST_STAY = 0.9
#: Estimation begins from mixtures of means over so many voxels in a row; the likeliest after a few iterations goes on.
FIRST_LENGTHS = (1, 8, 64)
FIRST_ITERATIONS = 5
#: Fewer means are not fitted to.
FEWEST_MEANS = 100


@dataclass(frozen=True, eq=False)
class ChainModel:
    """A hidden Markov chain with Gaussian observations.

    Args:
        initial: ``(K,)`` probability of each class where a piece of the curve begins.
        transition: ``(K, K)`` probability of the next voxel's class, rows sum to one.
        mixture: means ``(K, C)`` and covariances ``(K, C, C)`` of the classes, ascending in the first channel.
        log_likelihood: mean over voxels after each iteration, natural logarithm; never falls with ``em``.
        converged: it stood still before the iterations were over.
    """

    initial: Floats
    transition: Floats
    mixture: Mixture
    log_likelihood: tuple[float, ...] = ()
    converged: bool = False


def curve_inside(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """The voxels of a mask in the order of the curve through its bounding box.

    Args:
        mask: ``(x, y, z)``, somewhere true.

    Returns:
        ``(N,)`` flat indices into ``mask``, and ``(N,)`` bool, where a new piece begins: the first, and those after the
        curve was outside and came back somewhere else.

    >>> path, breaks = curve_inside(np.ones((2, 2, 2), dtype=bool))
    >>> path.tolist(), int(breaks.sum())
    ([0, 4, 6, 2, 3, 7, 5, 1], 1)
    """
    at = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    low, size = [int(a[0]) for a in at], [int(a[-1] - a[0]) + 1 for a in at]
    path = hilbert_path(size)
    box = mask[tuple(slice(n, n + m) for n, m in zip(low, size, strict=True))]
    if not box.all():
        path = path[box.reshape(-1)[path]]
    index = [i + n for i, n in zip(np.unravel_index(path, size), low, strict=True)]
    breaks = np.ones(len(path), dtype=bool)
    breaks[1:] = np.max([np.abs(np.diff(i)) for i in index], axis=0) > LONGEST_JUMP
    return np.ravel_multi_index(index, mask.shape).astype(path.dtype), breaks


def fit_chain(
    samples: npt.NDArray[np.floating],
    states: int,
    *,
    breaks: npt.NDArray[np.bool_] | None = None,
    estimation: Estimation = "em",
    tolerance: float = 1e-6,
    max_iterations: int = 50,
    seed: int = 0,
) -> ChainModel:
    """Estimate a hidden Markov chain from what is observed along it.

    Begins with Gaussian mixtures of the observations, and of their means over some voxels in a row, where there is less
    noise; the one that is likeliest after a few iterations goes on. ``em`` is the algorithm of Baum and Welch (Baum et
    al., Annals of Mathematical Statistics 41(1):164-171 (1970), https://doi.org/10.1214/aoms/1177697196).
    ``stochastic-em`` draws the classes in each iteration and learns from the draw (Celeux and Diebolt, Computational
    Statistics Quarterly 2:73-82 (1985)), which escapes poor maxima; all iterations are made, and the second half is
    averaged.

    Args:
        samples: ``(N, C)`` in order.
        states: ``K``, number of classes.
        breaks: ``(N,)``, where a new piece begins.
        estimation: ``em`` or ``stochastic-em``.
        tolerance: done when the mean log-likelihood rises by less.
        max_iterations: done at the latest after so many.
        seed: of the mixture and of draws.

    Raises:
        OptionError: more states than different samples, or an option out of range.
    """
    if estimation not in get_args(Estimation):
        raise OptionError(f"markov-chain has no estimation {estimation!r}: choose em or stochastic-em")
    if not tolerance >= 0 or max_iterations < 1:
        raise OptionError(
            "markov-chain: tolerance must not be negative and max_iterations be at least 1, found "
            f"{tolerance:g} and {max_iterations}"
        )
    table: Floats = np.ascontiguousarray(samples, dtype=np.float64)
    begun = [
        _by_expectation(table, _beginning(table, means, states, seed), breaks, tolerance, FIRST_ITERATIONS)
        for means in _smoother_and_smoother(table, states)
    ]
    model = max(begun, key=lambda start: start.log_likelihood[-1])
    if estimation == "em":
        return _by_expectation(table, model, breaks, tolerance, max_iterations)
    return _by_draws(table, model, breaks, max_iterations, np.random.default_rng(seed))


def markov_chain(
    voxels: npt.NDArray[np.floating],
    states: int = 3,
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    estimation: Estimation = "em",
    decision: Decision = "mpm",
    max_samples: int = 262_144,
    tolerance: float = 1e-6,
    max_iterations: int = 50,
    seed: int = 0,
) -> tuple[npt.NDArray[np.float32], ChainModel]:
    """Probability of each class at each voxel, from a hidden Markov chain along a Hilbert curve through the volume.

    The chain stands for what neighbours in space have in common, at the price of a line: work and memory grow with the
    number of voxels, and probabilities are exact. Salzenstein and Collet, IEEE Transactions on Pattern Analysis and
    Machine Intelligence 28(11):1753-1767 (2006); Benmiloud and Pieczynski,
    Traitement du Signal 12(5):433-454 (1995).

    Args:
        voxels: ``(C, x, y, z)``.
        states: ``K``, number of classes.
        mask: ``(x, y, z)``, where to work; elsewhere all probabilities are 0.
        estimation: ``em`` or ``stochastic-em`` (:func:`fit_chain`).
        decision: ``mpm`` gives the probability of each class at each voxel by itself; ``viterbi`` 0 and 1, for the most
            probable sequence as a whole.
        max_samples: voxels that the chain is fitted to, at most, in pieces of the curve drawn at random.
        tolerance: as in :func:`fit_chain`.
        max_iterations: as there.
        seed: of all draws.

    Returns:
        ``(K, x, y, z)`` float32, and the chain.

    Raises:
        OptionError: more classes than different values, or an option out of range.
        GeometryError: shapes do not fit.
        DatasetError: no voxel to work on, or some not finite.
    """
    if decision not in get_args(Decision):
        raise OptionError(f"markov-chain has no decision {decision!r}: choose mpm or viterbi")
    voxels_inside(voxels, mask)
    path, breaks = curve_inside(np.ones(voxels.shape[1:], dtype=bool) if mask is None else mask)
    drawn, drawn_breaks = _some_pieces(path, breaks, max_samples, seed)
    model = fit_chain(
        rows(voxels, drawn),
        states,
        breaks=drawn_breaks,
        estimation=estimation,
        tolerance=tolerance,
        max_iterations=max_iterations,
        seed=seed,
    )
    # a long chain in single precision: half the memory, and the recursions keep double
    logs = np.empty((len(path), states), dtype=np.float32)
    for first in range(0, len(path), BLOCK_ROWS):
        block = path[first : first + BLOCK_ROWS]
        logs[first : first + BLOCK_ROWS] = model.mixture.log_densities(rows(voxels, block))
    chain = Chain(logs, breaks)
    del logs
    found = np.zeros((states, voxels[0].size), dtype=np.float32)
    if decision == "viterbi":
        found[chain.best(model.initial, model.transition), path] = 1
    else:
        found[:, path] = chain.smoothed(model.initial, model.transition).posteriors.T
    return found.reshape(states, *voxels.shape[1:]), model


@dataclass(frozen=True)
class MarkovChainOptions:
    """Hidden Markov chain along a Hilbert curve through the bounding box of the mask (:func:`markov_chain`).

    Args:
        states: number of classes.
        estimation: ``em`` or ``stochastic-em``.
        decision: ``mpm`` or ``viterbi``.
        max_samples: voxels that the chain is fitted to, at most.
        max_iterations: of the estimation.
        seed: of all draws.
    """

    name: ClassVar[str] = "markov-chain"

    states: int = 4
    estimation: Estimation = "em"
    decision: Decision = "mpm"
    max_samples: int = 262_144
    max_iterations: int = 50
    seed: int = 0

    def classes(self, scan: Scan) -> Classes:
        """Probability of each class at each voxel of a scan."""
        posteriors, _ = markov_chain(
            scan.voxels,
            self.states,
            mask=scan.mask,
            estimation=self.estimation,
            decision=self.decision,
            max_samples=self.max_samples,
            max_iterations=self.max_iterations,
            seed=self.seed,
        )
        return Classes(posteriors=posteriors)


def _smoother_and_smoother(samples: Floats, states: int) -> list[Floats]:
    """Samples, and means of them over some in a row, as long as there are enough different ones."""
    found = [samples]
    for length in FIRST_LENGTHS[1:]:
        number = len(samples) // length
        means = samples[: number * length].reshape(number, length, -1).mean(axis=1)
        if number >= FEWEST_MEANS and len(np.unique(means, axis=0)) >= states:
            found.append(means)
    return found


def _beginning(samples: Floats, means: Floats, states: int, seed: int) -> ChainModel:
    """Classes from a mixture of means over samples in a row, and a guess of how long they last."""
    mixture = fit_mixture(means, states, tolerance=1e-4, seed=seed)
    length = next(n for n in FIRST_LENGTHS if len(samples) // n == len(means))
    if length > 1:
        share = np.repeat(mixture.posteriors(means)[0], length, axis=0)
        mixture = maximise(samples[: len(share)], share, mixture, variance_floor(samples))
    transition = FIRST_STAY * np.eye(states) + (1 - FIRST_STAY) * mixture.weights
    return ChainModel(mixture.weights, transition / transition.sum(axis=1, keepdims=True), mixture)


def _by_expectation(
    samples: Floats,
    model: ChainModel,
    breaks: npt.NDArray[np.bool_] | None,
    tolerance: float,
    max_iterations: int,
) -> ChainModel:
    """Baum and Welch."""
    floor = variance_floor(samples)
    history: list[float] = []
    converged = False
    while len(history) < max_iterations and not converged:
        chain = Chain(model.mixture.log_densities(samples), breaks)
        found = chain.smoothed(model.initial, model.transition)
        history.append(found.log_likelihood / len(samples))
        converged = len(history) > 1 and history[-1] - history[-2] <= tolerance
        if not converged and len(history) < max_iterations:
            model = _learnt(samples, found.posteriors, found.transitions, found.beginnings, model, floor)
    return _ordered(replace(model, log_likelihood=tuple(history), converged=converged))


def _by_draws(
    samples: Floats,
    model: ChainModel,
    breaks: npt.NDArray[np.bool_] | None,
    max_iterations: int,
    rng: np.random.Generator,
) -> ChainModel:
    """Stochastic EM; the mean of the second half of the iterations."""
    floor = variance_floor(samples)
    states = len(model.initial)
    begins = np.zeros(len(samples), dtype=bool) if breaks is None else breaks.copy()
    begins[0] = True
    kept: list[ChainModel] = []
    for iteration in range(max_iterations):
        drawn = Chain(model.mixture.log_densities(samples), begins).draw(model.initial, model.transition, rng)
        inside = ~begins[1:]
        pairs = drawn[:-1][inside].astype(np.intp) * states + drawn[1:][inside]
        transitions = np.bincount(pairs, minlength=states**2).reshape(states, states).astype(np.float64)
        beginnings = np.bincount(drawn[begins], minlength=states).astype(np.float64)
        model = _learnt(samples, np.eye(states)[drawn], transitions, beginnings, model, floor)
        if iteration >= max_iterations // 2:
            kept.append(model)
    mixture = replace(
        model.mixture,
        weights=np.mean([m.mixture.weights for m in kept], axis=0),
        means=np.mean([m.mixture.means for m in kept], axis=0),
        covariances=np.mean([m.mixture.covariances for m in kept], axis=0),
    )
    initial, transition = (np.mean([getattr(m, n) for m in kept], axis=0) for n in ("initial", "transition"))
    found = Chain(mixture.log_densities(samples), begins).smoothed(initial, transition)
    return _ordered(ChainModel(initial, transition, mixture, (found.log_likelihood / len(samples),), True))


def _learnt(
    samples: Floats,
    posterior: npt.NDArray[np.floating],
    transitions: Floats,
    beginnings: Floats,
    before: ChainModel,
    floor: float,
) -> ChainModel:
    """The likeliest chain given (expected) classes; what was never seen stays as it was."""
    total = transitions.sum(axis=1, keepdims=True)
    return replace(
        before,
        initial=beginnings / beginnings.sum(),
        transition=np.where(total > 0, transitions / np.where(total > 0, total, 1), before.transition),
        mixture=maximise(samples, np.asarray(posterior, dtype=np.float64), before.mixture, floor),
    )


def _ordered(model: ChainModel) -> ChainModel:
    """With the classes in ascending order of their mean in the first channel."""
    order = np.argsort(model.mixture.means[:, 0], kind="stable")
    return replace(
        model,
        initial=model.initial[order],
        transition=model.transition[np.ix_(order, order)],
        mixture=model.mixture.ordered(),
    )


def _some_pieces(
    path: npt.NDArray[Any], breaks: npt.NDArray[np.bool_], most: int, seed: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """All of the curve, or pieces of it with ``most`` voxels together, and where each begins."""
    if len(path) <= most:
        return path, breaks
    length = min(PIECE, most)
    starts = np.arange(0, len(path) - length + 1, length)
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.choice(starts, min(most // length, len(starts)), replace=False))
    at = (starts[:, None] + np.arange(length)).reshape(-1)
    begins = breaks[at]
    begins[::length] = True
    return path[at], begins
