"""Hidden Markov chains of any length: probabilities, draws and the best sequence of states, exact and vectorised.

A recursion along a chain of millions of steps is too slow in Python, and its steps depend on each other. So the chain
is cut into segments that are gone through side by side: once to find what each segment makes of *any* state it begins
in (a ``K`` x ``K`` matrix, or a map from last to first states), then from segment to segment with those, then once more
inside each with its beginning known. This is a parallel prefix in two levels (Hillis and Steele, Communications of
the ACM 29(12):1170-1183 (1986), https://doi.org/10.1145/7902.7903); nothing is approximated, and work grows with the
length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError

__all__ = ["Chain", "Smoothed"]

Floats = npt.NDArray[np.floating[Any]]
States = npt.NDArray[np.uint8]

#: Length of segments over the square root of the chain's: inside segments a step costs about ten times as much.
SEGMENT_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Posterior of the states of a chain given all observations.

    Args:
        posteriors: ``(N, K)`` probability of each state at each step.
        transitions: ``(K, K)`` expected number of steps from each state to each.
        beginnings: ``(K,)`` expected number of pieces that begin in each state.
        log_likelihood: of the observations, natural logarithm.
    """

    posteriors: Floats
    transitions: npt.NDArray[np.float64]
    beginnings: npt.NDArray[np.float64]
    log_likelihood: float


class Chain:
    """Observations along a chain, which may be in several pieces one after the other.

    Args:
        log_likelihoods: ``(N, K)``, of each observation in each state, natural logarithm; its type is that of results.
        breaks: ``(N,)`` bool, where a new piece begins; the first always does.

    Raises:
        GeometryError: shapes do not fit, or there is no observation.

    >>> chain = Chain(np.log(np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])))
    >>> lazy = np.array([[0.9, 0.1], [0.1, 0.9]])
    >>> chain.smoothed(np.array([0.5, 0.5]), lazy).posteriors.round(3)[:, 0].tolist()
    [0.8, 0.615, 0.436]
    >>> chain.best(np.array([0.5, 0.5]), lazy).tolist()
    [0, 0, 0]
    """

    def __init__(self, log_likelihoods: Floats, breaks: npt.NDArray[np.bool_] | None = None) -> None:
        if log_likelihoods.ndim != 2 or not len(log_likelihoods):
            raise GeometryError(
                f"expected likelihoods (N, K), found an array of shape {log_likelihoods.shape}"
            )
        self.length, self.states = log_likelihoods.shape
        if breaks is not None and breaks.shape != (self.length,):
            raise GeometryError(f"breaks have shape {breaks.shape}, the chain {self.length} steps")
        self._steps = int(np.ceil(SEGMENT_SHARE * np.sqrt(self.length))) + 1
        self._segments = -(-self.length // self._steps)
        broken = np.zeros(self.length, dtype=bool) if breaks is None else breaks.copy()
        broken[0] = True
        largest = log_likelihoods.max(axis=1, keepdims=True)
        self._largest = float(largest.sum(dtype=np.float64))
        self._logs = self._by_step(log_likelihoods - largest)
        self._breaks: npt.NDArray[np.bool_] = self._by_step(broken)
        self._broken_steps = [bool(here.any()) for here in self._breaks]

    def smoothed(self, initial: Floats, transition: Floats) -> Smoothed:
        """Probability of each state at each step by the forward-backward recursion.

        Baum, Petrie, Soules and Weiss, Annals of Mathematical Statistics 41(1):164-171 (1970),
        https://doi.org/10.1214/aoms/1177697196; scaled at every step as in Devijver, Pattern Recognition Letters
        3(6):369-373 (1985).

        Args:
            initial: ``(K,)`` probability of each state where a piece begins.
            transition: ``(K, K)`` probability of the next state, rows sum to one.
        """
        likelihoods = np.exp(self._logs)
        matrices = self._matrices(likelihoods, initial, transition)
        entering = self._entering(matrices)
        forward, log_likelihood = self._forward(likelihoods, entering, initial, transition)
        leaving = np.ones((self._segments, self.states))
        for segment in range(self._segments - 1, 0, -1):
            leaving[segment - 1] = matrices[segment] @ leaving[segment]
            leaving[segment - 1] /= leaving[segment - 1].sum()
        transitions, beginnings = np.zeros_like(transition, dtype=np.float64), np.zeros(self.states)
        backward = leaving
        for step in range(self._steps - 1, -1, -1):
            n = self._present(step)
            before = forward[step - 1, :n] if step else entering[:n]
            seen = likelihoods[step, :n] * backward[:n]
            broken = self._breaks[step, :n]
            inside = seen @ transition.T
            if self._broken_steps[step]:
                inside[broken] = (seen[broken] @ initial)[:, None]
            share = before / (before * inside).sum(axis=1, keepdims=True)
            here = forward[step, :n] * backward[:n]
            here /= here.sum(axis=1, keepdims=True)
            forward[step, :n] = here
            if self._broken_steps[step]:
                share[broken] = 0
                beginnings += here[broken].sum(axis=0)
            transitions += transition * (share.T @ seen)
            backward[:n] = inside / inside.sum(axis=1, keepdims=True)
        return Smoothed(self._in_order(forward), transitions, beginnings, log_likelihood)

    def draw(self, initial: Floats, transition: Floats, rng: np.random.Generator) -> States:
        """One sequence of states ``(N,)`` drawn given all observations.

        Forward filtering, backward sampling: Carter and Kohn, Biometrika 81(3):541-553 (1994),
        https://doi.org/10.1093/biomet/81.3.541.

        Args:
            initial: ``(K,)`` probability of each state where a piece begins.
            transition: ``(K, K)`` probability of the next state, rows sum to one.
            rng: draws one number for each step.
        """
        likelihoods = np.exp(self._logs)
        entering = self._entering(self._matrices(likelihoods, initial, transition))
        forward, _ = self._forward(likelihoods, entering, initial, transition)
        maps = np.empty(forward.shape, dtype=np.uint8)
        for step in range(self._steps):
            n = self._present(step)
            before = forward[step - 1, :n] if step else entering[:n]
            chances = np.cumsum(before[:, :, None] * transition, axis=1)
            if self._broken_steps[step]:
                broken = self._breaks[step, :n]
                chances[broken] = np.cumsum(before[broken], axis=1)[:, :, None]
            drawn = rng.random((n, 1, 1)) * chances[:, -1:]
            maps[step, :n] = np.minimum((drawn > chances).sum(axis=1), self.states - 1)
        last = np.cumsum(forward[self._present_last() - 1, -1])
        return self._traced(maps, min(int((rng.random() * last[-1] > last).sum()), self.states - 1))

    def best(self, initial: Floats, transition: Floats) -> States:
        """The most probable sequence of states ``(N,)``.

        Viterbi, IEEE Transactions on Information Theory 13(2):260-269 (1967), https://doi.org/10.1109/TIT.1967.1054010.

        Args:
            initial: ``(K,)`` probability of each state where a piece begins.
            transition: ``(K, K)`` probability of the next state, rows sum to one.
        """
        tiny = np.finfo(np.float64).tiny
        first, logs = np.log(np.maximum(initial, tiny)), np.log(np.maximum(transition, tiny))
        apart = np.where(np.eye(self.states, dtype=bool), 0.0, -np.inf)
        scores = np.tile(apart, (self._segments, 1, 1))
        for step in range(self._steps):
            n = self._present(step)
            now, _ = self._advance(scores[:n], self._breaks[step, :n, None], first, logs)
            scores[:n] = now + self._logs[step, :n, None]
        entering = np.zeros((self._segments, self.states))
        for segment in range(1, self._segments):
            best = (entering[segment - 1][:, None] + scores[segment - 1]).max(axis=0)
            entering[segment] = best - best.max()
        maps = np.empty(self._logs.shape, dtype=np.uint8)
        for step in range(self._steps):
            n = self._present(step)
            now, maps[step, :n] = self._advance(entering[:n], self._breaks[step, :n], first, logs)
            entering[:n] = now + self._logs[step, :n]
            entering[:n] -= entering[:n].max(axis=1, keepdims=True)
        return self._traced(maps, int(entering[-1].argmax()))

    def _advance(
        self, scores: Floats, broken: npt.NDArray[np.bool_], first: Floats, logs: Floats
    ) -> tuple[Floats, npt.NDArray[np.intp]]:
        """Best score of each next state, and the state before; ``(..., K)`` each."""
        each = scores[..., :, None] + np.where(broken[..., None, None], first, logs)
        before = each.argmax(axis=-2)
        return np.take_along_axis(each, before[..., None, :], axis=-2)[..., 0, :], before

    def _matrices(self, likelihoods: Floats, initial: Floats, transition: Floats) -> Floats:
        """For each segment and state before it the probability of each last state, up to a factor for each segment."""
        matrices = np.tile(np.eye(self.states), (self._segments, 1, 1))
        for step in range(self._steps):
            n = self._present(step)
            now = matrices[:n] @ transition
            if self._broken_steps[step]:
                broken = self._breaks[step, :n]
                now[broken] = matrices[:n][broken].sum(axis=2, keepdims=True) * initial
            now *= likelihoods[step, :n, None]
            matrices[:n] = now / now.sum(axis=(1, 2), keepdims=True)
        return matrices

    def _entering(self, matrices: Floats) -> Floats:
        """Probability of each state just before each segment, given what came before."""
        entering = np.full((self._segments, self.states), 1 / self.states)
        for segment in range(1, self._segments):
            entering[segment] = entering[segment - 1] @ matrices[segment - 1]
            entering[segment] /= entering[segment].sum()
        return entering

    def _forward(
        self, likelihoods: Floats, entering: Floats, initial: Floats, transition: Floats
    ) -> tuple[Floats, float]:
        """Probability of each state given the observations up to each step, by step; and the log-likelihood."""
        forward = np.empty_like(likelihoods)
        log_likelihood = self._largest
        now = entering.copy()
        for step in range(self._steps):
            n = self._present(step)
            predicted = now[:n] @ transition
            if self._broken_steps[step]:
                predicted[self._breaks[step, :n]] = initial
            predicted *= likelihoods[step, :n]
            total = predicted.sum(axis=1, keepdims=True)
            now[:n] = predicted / total
            forward[step, :n] = now[:n]
            log_likelihood += float(np.log(total).sum())
        return forward, log_likelihood

    def _traced(self, maps: States, last: int) -> States:
        """States of all steps, given at each step the state before for every state, and the last one."""
        first = np.tile(np.arange(self.states, dtype=np.uint8), (self._segments, 1))
        for step in range(self._steps - 1, -1, -1):
            n = self._present(step)
            first[:n] = np.take_along_axis(maps[step, :n], first[:n], axis=1)
        ends = np.empty(self._segments, dtype=np.uint8)
        ends[-1] = last
        for segment in range(self._segments - 1, 0, -1):
            ends[segment - 1] = first[segment, ends[segment]]
        states = np.empty(maps.shape[:2], dtype=np.uint8)
        for step in range(self._steps - 1, -1, -1):
            n = self._present(step)
            states[step, :n] = ends[:n]
            ends[:n] = np.take_along_axis(maps[step, :n], ends[:n, None], axis=1)[:, 0]
        return self._in_order(states)

    def _present_last(self) -> int:
        """Steps of the last segment, which may be shorter."""
        return self.length - (self._segments - 1) * self._steps

    def _present(self, step: int) -> int:
        """Segments that have such a step: all, or all but the last."""
        return self._segments - (step >= self._present_last())

    def _by_step(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``(N, ...)`` -> ``(steps, segments, ...)``; what lies beyond the end is 0."""
        beyond = self._steps * self._segments - self.length
        padded = np.concatenate([values, np.zeros((beyond, *values.shape[1:]), dtype=values.dtype)])
        return np.ascontiguousarray(
            padded.reshape(self._segments, self._steps, *values.shape[1:]).swapaxes(0, 1)
        )

    def _in_order(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``(steps, segments, ...)`` -> ``(N, ...)``."""
        return values.swapaxes(0, 1).reshape(-1, *values.shape[2:])[: self.length]
