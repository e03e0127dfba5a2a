"""Votes against a one-hot implementation, disagreement and slabs against known answers."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.fusion.voting import Canvas, disagreement, slabs, vote, weighted_vote, winners_of
from atlaseg.pipeline.errors import GeometryError, OptionError

WEIGHTS = st.one_of(st.just(0.0), st.floats(2.0**-10, 1000, width=32))


def one_hot_shares(labels, weights, classes, inside):
    """The definition, in float64, voxel by voxel."""
    shares = np.zeros((classes, labels.shape[1]))
    for voxel in range(labels.shape[1]):
        w = np.asarray(weights[:, voxel], dtype=np.float64) * inside[:, voxel]
        if not w.any():
            w = inside[:, voxel].astype(float)
        if not w.any():
            shares[0, voxel] = 1
            continue
        shares[:, voxel] = np.eye(classes)[labels[:, voxel]].T @ w / w.sum()
    return shares


@st.composite
def ballots(draw):
    classes = draw(st.integers(1, 7))
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 12)))
    labels = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, classes - 1)))
    weights = draw(hnp.arrays(np.float32, shape, elements=WEIGHTS))
    return labels, weights, classes, draw(hnp.arrays(bool, shape))


@given(ballots())
@settings(deadline=None, max_examples=200)
def test_weighted_vote_is_the_one_hot_vote(ballot) -> None:
    labels, weights, classes, inside = ballot
    before = weights.copy()
    winners, shares = weighted_vote(labels, weights, classes, inside)
    expected = one_hot_shares(labels, weights, classes, inside)
    assert np.array_equal(weights, before)
    assert shares.dtype == np.float32
    assert winners.dtype == labels.dtype
    np.testing.assert_allclose(shares, expected, atol=2e-6)
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(winners, shares.argmax(axis=0))
    # the winner is the expected one, up to what float32 can tell apart
    chosen = np.take_along_axis(expected, winners[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(chosen, expected.max(axis=0), atol=2e-6)


@given(ballots(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_equal_votes_do_not_depend_on_the_order_of_atlases(ballot, random) -> None:
    labels, _, classes, inside = ballot
    order = list(range(len(labels)))
    random.shuffle(order)
    ones = np.ones((len(labels), 1), np.float32)
    first, _ = weighted_vote(labels, ones, classes, inside)
    second, _ = weighted_vote(labels[order], ones, classes, inside[order])
    assert np.array_equal(first, second)  # ties, too, are decided alike


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 20)), elements=st.integers(0, 4)))
@settings(deadline=None, max_examples=100)
def test_winners_are_argmax(scores) -> None:
    assert np.array_equal(winners_of(scores, np.uint8), scores.argmax(axis=0))


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e30, 3e38])
def test_weights_of_any_size_vote(scale: float) -> None:
    labels = np.array([[1], [1], [2]], np.uint8)
    weights = np.array([[0.4], [0.4], [1.0]], np.float32) * np.float32(scale)
    winners, shares = weighted_vote(labels, weights, 3)
    assert winners.tolist() == [2]
    np.testing.assert_allclose(shares[:, 0], [0, 0.8 / 1.8, 1 / 1.8], atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1])
def test_impossible_weights_are_refused(bad: float) -> None:
    with pytest.raises(OptionError, match="finite and at least 0"):
        weighted_vote(np.zeros((2, 1), np.uint8), np.array([[1], [bad]], np.float32), 1)


def test_disagreement_asks_only_those_who_have_seen_the_place() -> None:
    labels = np.array([[1, 1, 1, 1, 2], [2, 2, 1, 2, 2]], np.uint8).reshape(2, 1, 1, 5)
    inside = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 0]], bool).reshape(2, 1, 1, 5)
    disputed, agreed = disagreement(Candidates(labels, 3, inside=inside))
    assert disputed.ravel().tolist() == [True, False, False, False, False]
    assert agreed.ravel().tolist() == [0, 1, 1, 2, 0]
    disputed, agreed = disagreement(Candidates(labels, 3))
    assert disputed.ravel().tolist() == [True, True, False, True, False]
    assert agreed.ravel().tolist() == [0, 0, 1, 0, 2]


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_in_any_memory_order_are_fused_alike(order: str) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (4, 3, 4, 5)).astype(np.uint8)
    inside = rng.random(labels.shape) < 0.7
    ones = np.ones((4, 1), np.float32)
    expected = vote(Candidates(labels, 3, inside=inside), lambda _: ones, probabilities=True)
    given = Candidates(np.asarray(labels, order=order), 3, inside=np.asarray(inside, order=order))
    found = vote(given, lambda _: ones, probabilities=True)
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.probabilities, expected.probabilities)


@given(st.integers(0, 50), st.integers(1, 9), st.integers(1, 200))
@settings(deadline=None, max_examples=100)
def test_slabs_cover_everything_once_within_the_budget(count: int, floats: int, budget: int) -> None:
    parts = list(slabs(np.arange(count), floats, budget))
    assert np.array_equal(np.concatenate([*parts, np.empty(0, int)]), np.arange(count))
    assert all(len(part) == 1 or len(part) * floats * 4 <= budget for part in parts)


def test_canvas_insists_on_probabilities_that_are_wanted() -> None:
    labels = np.array([[0, 1], [0, 2]], np.uint8).reshape(2, 1, 1, 2)
    canvas = Canvas(Candidates(labels, 3), probabilities=True)
    winners = np.array([1], np.uint8)
    with pytest.raises(GeometryError, match=r"shape \(3, 1\), found none"):
        canvas.put(canvas.disputed, winners)
    with pytest.raises(GeometryError, match=r"found shape \(2, 1\)"):
        canvas.put(canvas.disputed, winners, np.zeros((2, 1), np.float32))


def test_no_array_of_all_classes_is_held_when_probabilities_are_not_wanted() -> None:
    rng = np.random.default_rng(2)
    classes, shape = 100, (40, 40, 40)
    candidates = Candidates(rng.integers(0, classes, (3, *shape)).astype(np.uint8), classes)
    ones = np.ones((3, 1), np.float32)
    peaks = {}
    for wanted in (True, False):
        tracemalloc.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("atlaseg.atlases.fusion.voting.SLAB_BYTES", 2**20)
            vote(candidates, lambda _: ones, probabilities=wanted)
        peaks[wanted] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    everything = classes * np.prod(shape) * 4
    assert peaks[False] < 0.2 * everything
    assert peaks[True] < 1.2 * everything
