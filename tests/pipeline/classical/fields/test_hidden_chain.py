"""Hidden Markov chains: against enumeration of all sequences of states."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.classical.fields.hidden_chain import Chain
from atlaseg.pipeline.errors import GeometryError


def _model(rng, length, states):
    logs = np.log(rng.uniform(0.01, 1, (length, states)))
    initial, transition = rng.dirichlet(np.ones(states)), rng.dirichlet(np.ones(states), states)
    breaks = rng.random(length) < 0.3
    return logs, breaks, initial, transition


def _sequences(logs, breaks, initial, transition):
    """All sequences of states, with the joint probability of each."""
    found = []
    for states in itertools.product(range(logs.shape[1]), repeat=len(logs)):
        chance = 1.0
        for t, state in enumerate(states):
            begins = t == 0 or breaks[t]
            chance *= (initial[state] if begins else transition[states[t - 1], state]) * np.exp(
                logs[t, state]
            )
        found.append((np.array(states), chance))
    return found


CHAINS = {"seed": st.integers(0, 10_000), "length": st.integers(1, 8), "states": st.integers(1, 3)}


@pytest.mark.thorough
@settings(max_examples=40, deadline=None)
@given(**CHAINS)
def test_forward_backward_equals_enumeration(seed, length, states):
    model = _model(np.random.default_rng(seed), length, states)
    logs, breaks, initial, transition = model
    posteriors, counts, beginnings, total = (
        np.zeros((length, states)),
        np.zeros((states, states)),
        np.zeros(states),
        0.0,
    )
    for sequence, chance in _sequences(*model):
        total += chance
        posteriors[np.arange(length), sequence] += chance
        for t in range(length):
            if t == 0 or breaks[t]:
                beginnings[sequence[t]] += chance
            else:
                counts[sequence[t - 1], sequence[t]] += chance
    found = Chain(logs, breaks).smoothed(initial, transition)
    np.testing.assert_allclose(found.posteriors, posteriors / total, atol=1e-10)
    np.testing.assert_allclose(found.transitions, counts / total, atol=1e-10)
    np.testing.assert_allclose(found.beginnings, beginnings / total, atol=1e-10)
    assert found.log_likelihood == pytest.approx(np.log(total), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(**CHAINS)
def test_viterbi_equals_enumeration(seed, length, states):
    model = _model(np.random.default_rng(seed), length, states)
    best = max(_sequences(*model), key=lambda found: found[1])[0]
    np.testing.assert_array_equal(Chain(*model[:2]).best(*model[2:]), best)


def _one_after_the_other(logs, initial, transition):
    """The recursions as in a textbook."""
    forward = np.empty_like(logs)
    for t in range(len(logs)):
        forward[t] = (forward[t - 1] @ transition if t else initial) * np.exp(logs[t])
        forward[t] /= forward[t].sum()
    backward = np.ones_like(logs)
    for t in range(len(logs) - 2, -1, -1):
        backward[t] = transition @ (np.exp(logs[t + 1]) * backward[t + 1])
        backward[t] /= backward[t].sum()
    posteriors = forward * backward
    score, pointers = np.log(initial) + logs[0], []
    for log in logs[1:]:
        each = score[:, None] + np.log(transition)
        pointers.append(each.argmax(axis=0))
        score = each.max(axis=0) + log
    states = [int(score.argmax())]
    for pointer in reversed(pointers):
        states.append(int(pointer[states[-1]]))
    return posteriors / posteriors.sum(axis=1, keepdims=True), states[::-1]


@pytest.mark.parametrize("length", [99, 1000, 5003])
def test_segments_change_nothing(length):
    logs, _, initial, transition = _model(np.random.default_rng(length), length, 3)
    posteriors, states = _one_after_the_other(5 * logs, initial, transition)
    chain = Chain(5 * logs)
    np.testing.assert_allclose(chain.smoothed(initial, transition).posteriors, posteriors, atol=1e-9)
    np.testing.assert_array_equal(chain.best(initial, transition), states)


def test_draws_have_the_probabilities_of_the_states():
    logs, breaks, initial, transition = _model(np.random.default_rng(5), 60, 3)
    chain = Chain(logs, breaks)
    rng = np.random.default_rng(0)
    draws = np.stack([chain.draw(initial, transition, rng) for _ in range(1500)])
    found = chain.smoothed(initial, transition)
    frequencies = np.stack([(draws == k).mean(axis=0) for k in range(3)], axis=1)
    np.testing.assert_allclose(frequencies, found.posteriors, atol=0.06)
    inside = ~breaks[1:]
    counts = np.zeros((3, 3))
    np.add.at(counts, (draws[:, :-1][:, inside], draws[:, 1:][:, inside]), 1 / len(draws))
    np.testing.assert_allclose(counts, found.transitions, atol=0.5)


def test_states_that_cannot_be_do_no_harm():
    logs = np.array([[0.0, -1e4], [-1e4, 0.0], [0.0, -1e4]] * 50)
    found = Chain(logs).smoothed(np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    np.testing.assert_array_equal(found.posteriors.argmax(axis=1), logs.argmax(axis=1))
    assert np.isfinite(found.log_likelihood)


def test_bad_shapes():
    with pytest.raises(GeometryError, match="expected likelihoods"):
        Chain(np.zeros(3))
    with pytest.raises(GeometryError, match="breaks have shape"):
        Chain(np.zeros((3, 2)), np.zeros(2, bool))
