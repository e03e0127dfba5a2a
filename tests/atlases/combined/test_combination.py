"""Network and atlases joined: known answers, the network back to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlaseg.atlases.combined import combination as module
from atlaseg.atlases.combined.combination import KINDS, Combination
from atlaseg.atlases.combined.weight_learning import WEIGHTS
from atlaseg.pipeline.errors import GeometryError, OptionError


def chances(seed: int, K: int = 3, shape: tuple[int, ...] = (5, 4, 3)) -> Any:
    return np.random.default_rng(seed).dirichlet(np.ones(K), shape).transpose(3, 0, 1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_zero_gives_the_network_back(kind: Any) -> None:
    network = chances(0).astype(np.float16)
    joined = Combination(kind, 0.0).apply(network, chances(1))
    assert joined is network


def test_an_ensemble_is_the_weighted_mean() -> None:
    network, atlases = chances(0), chances(1)
    joined = Combination("ensemble", 0.3).apply(network, atlases)
    np.testing.assert_allclose(joined, 0.7 * network + 0.3 * atlases, atol=1e-6)
    np.testing.assert_allclose(Combination("ensemble", 1.0).apply(network, atlases), atlases, atol=1e-6)


def test_a_prior_is_bayes_rule() -> None:
    network, atlases = chances(0), chances(1)
    joined = Combination("bayes", 0.5).apply(network, atlases)
    expected = network * np.sqrt(np.maximum(atlases, 1e-3))
    np.testing.assert_allclose(joined, expected / expected.sum(axis=0), atol=1e-6)


def test_slabs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network, atlases = chances(0), chances(1)
    whole = Combination("bayes", 0.4).apply(network, atlases)
    monkeypatch.setattr(module, "_SLAB", 7)
    np.testing.assert_array_equal(Combination("bayes", 0.4).apply(network, atlases), whole)


def test_certain_atlases_can_be_overruled() -> None:
    network, atlases = np.array([[0.001], [0.999]]), np.array([[1.0], [0.0]])
    assert Combination("bayes", 0.5).apply(network, atlases)[1, 0] > 0.5


@settings(deadline=None, max_examples=50)
@given(
    arrays(np.float32, (3, 6), elements=st.floats(0.0625, 1, width=32)),
    arrays(np.float32, (3, 6), elements=st.floats(0, 1, width=32)),
    st.sampled_from([(kind, weight) for kind in KINDS for weight in WEIGHTS[kind]]),
)
def test_probabilities_stay_probabilities(network: Any, atlases: Any, way: Any) -> None:
    network = network / network.sum(axis=0)
    atlases = (atlases + 1e-3) / (atlases + 1e-3).sum(axis=0)
    joined = Combination(*way).apply(network, atlases)
    assert joined.min() >= 0
    np.testing.assert_allclose(joined.sum(axis=0), 1, atol=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(OptionError, match="'vote'; choose one of none, bayes, ensemble"):
        Combination("vote")  # type: ignore[arg-type]
    for kind, weight in (("ensemble", 1.1), ("ensemble", -0.1), ("bayes", -1), ("bayes", float("nan"))):
        with pytest.raises(OptionError, match="weight of the atlases"):
            Combination(kind, weight)  # type: ignore[arg-type]
    with pytest.raises(GeometryError, match="differ in shape"):
        Combination("ensemble", 0.5).apply(chances(0), chances(0, 4))
