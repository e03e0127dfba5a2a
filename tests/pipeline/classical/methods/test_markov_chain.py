"""Hidden Markov chain along the curve: estimation, decisions, and what it is worth beside a mixture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.classical.methods.gmm import gaussian_mixture
from atlaseg.pipeline.classical.methods.markov_chain import (
    LONGEST_JUMP,
    MarkovChainOptions,
    curve_inside,
    fit_chain,
    markov_chain,
)
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError


def _spheres(classes, noise, size=30):
    """A ball, with a core of its own for three classes, and what noise leaves of it."""
    rng = np.random.default_rng(0)
    radius = np.linalg.norm(np.indices((size,) * 3) - (size - 1) / 2, axis=0)
    labels = (radius < 0.4 * size).astype(int)
    if classes == 3:
        labels += radius < 0.22 * size
    return labels, labels + rng.normal(0, noise, labels.shape)


def _dice(labels, truth):
    return [
        2 * np.sum((labels == k) & (truth == k)) / (np.sum(labels == k) + np.sum(truth == k))
        for k in range(1, truth.max() + 1)
    ]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("classes", "noise", "estimation", "decision"),
    [
        (2, 0.6, "em", "mpm"),
        (3, 0.5, "em", "mpm"),
        (3, 0.5, "em", "viterbi"),
        (2, 0.6, "stochastic-em", "viterbi"),
        pytest.param(3, 0.5, "stochastic-em", "mpm", marks=pytest.mark.slow),
    ],
)
def test_noisy_spheres_come_out_better_than_by_the_mixture_alone(classes, noise, estimation, decision):
    truth, voxels = _spheres(classes, noise)
    alone = _dice(gaussian_mixture(voxels[None], classes)[0].argmax(axis=0), truth)
    found, _ = markov_chain(
        voxels[None], classes, estimation=estimation, decision=decision, max_iterations=30
    )
    chained = _dice(found.argmax(axis=0), truth)
    print(
        f"{classes} classes, {estimation}, {decision}: gmm {np.round(alone, 3)}, chain {np.round(chained, 3)}"
    )
    assert min(np.subtract(chained, alone)) > 0.05
    assert min(chained) > 0.75


def _simulated(rng, length=20_000):
    transition = np.array([[0.95, 0.03, 0.02], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9]])
    states = [0]
    chances = rng.random(length)
    for u in chances[1:]:
        states.append(int(np.searchsorted(np.cumsum(transition[states[-1]]), u)))
    states = np.array(states)
    samples = np.array([[0.0, 0], [2, 1], [4, -1]])[states] + rng.normal(0, 0.8, (length, 2))
    return states, samples, transition


@pytest.mark.thorough
@pytest.mark.parametrize("estimation", ["em", "stochastic-em"])
def test_recovers_the_chain_that_made_the_observations(estimation):
    _, samples, transition = _simulated(np.random.default_rng(0))
    model = fit_chain(samples, 3, estimation=estimation)
    np.testing.assert_allclose(model.transition, transition, atol=0.02)
    np.testing.assert_allclose(model.mixture.means, [[0, 0], [2, 1], [4, -1]], atol=0.05)
    np.testing.assert_allclose(model.mixture.covariances, np.tile(0.64 * np.eye(2), (3, 1, 1)), atol=0.06)


@pytest.mark.thorough
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    states=st.integers(1, 4),
    channels=st.integers(1, 2),
    decimals=st.integers(0, 6),
    broken=st.floats(0, 0.3),
)
def test_likelihood_never_falls(seed, states, channels, decimals, broken):
    rng = np.random.default_rng(seed)
    samples = np.cumsum(rng.normal(size=(300, channels)), axis=0).round(decimals)
    breaks = rng.random(300) < broken
    history = fit_chain(samples, states, breaks=breaks, max_iterations=15).log_likelihood
    assert np.isfinite(history).all()
    assert (np.diff(history) >= -1e-9 * np.abs(history[:-1]) - 1e-10).all()


def test_the_curve_stays_inside_the_mask_and_breaks_where_it_jumps():
    rng = np.random.default_rng(0)
    mask = np.zeros((15, 20, 12), bool)
    mask[2:6, 3:17, 1:10] = rng.random((4, 14, 9)) < 0.7
    mask[12:14, 5:15, 2:9] = True
    path, breaks = curve_inside(mask)
    np.testing.assert_array_equal(np.sort(path), np.flatnonzero(mask))
    jumps = np.abs(np.diff(np.stack(np.unravel_index(path, mask.shape)), axis=1)).max(axis=0)
    assert breaks[0]
    np.testing.assert_array_equal(breaks[1:], jumps > LONGEST_JUMP)
    assert 0 < breaks[1:].sum() < 0.1 * len(path)


def test_pieces_of_the_curve_are_enough():
    truth, voxels = _spheres(2, 0.6)
    whole, pieces = (markov_chain(voxels[None], 2, max_samples=n)[0].argmax(axis=0) for n in (10**6, 8192))
    assert abs(_dice(whole, truth)[0] - _dice(pieces, truth)[0]) < 0.02
    assert (whole == pieces).mean() > 0.97


def test_options_run_on_a_scan_inside_its_mask():
    _, voxels = _spheres(2, 0.4, size=16)
    mask = np.ones(voxels.shape, bool)
    mask[:3] = False
    scan = Scan.of(np.stack([voxels, -voxels]), mask=mask)
    posteriors = MarkovChainOptions(states=2).classes(scan).posteriors
    assert posteriors.dtype == np.float32
    assert not posteriors[:, ~mask].any()
    np.testing.assert_allclose(posteriors[:, mask].sum(axis=0), 1, atol=1e-4)
    again = MarkovChainOptions(states=2).classes(scan).posteriors
    np.testing.assert_array_equal(posteriors, again)


def test_bad_input():
    voxels = np.random.default_rng(0).normal(size=(1, 4, 4, 4))
    with pytest.raises(OptionError, match="3 classes are more than the 2 different"):
        markov_chain((voxels > 0).astype(float), 3)
    with pytest.raises(OptionError, match="estimation"):
        markov_chain(voxels, 2, estimation="guess")
    with pytest.raises(OptionError, match="decision"):
        markov_chain(voxels, 2, decision="guess")
    with pytest.raises(OptionError, match="max_iterations"):
        markov_chain(voxels, 2, max_iterations=0)
    with pytest.raises(GeometryError, match="mask has shape"):
        markov_chain(voxels, 2, mask=np.ones((4, 4, 5), bool))
    with pytest.raises(DatasetError, match="mask is empty"):
        markov_chain(voxels, 2, mask=np.zeros((4, 4, 4), bool))
    voxels[0, 0, 0, 0] = np.inf
    with pytest.raises(DatasetError, match="infinite"):
        markov_chain(voxels, 2)
