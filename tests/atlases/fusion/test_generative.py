"""The generative model beside a plain implementation of its formulas, and its invariants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.special import softmax

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.fusion.generative import GenerativeFusion, signed_distance
from atlaseg.pipeline.errors import OptionError

SHAPE = (9, 12, 8)


@pytest.fixture
def candidates() -> Candidates:
    """Three atlases of a smooth anatomy with three labels, each a little off."""
    rng = np.random.default_rng(0)
    shift = [gaussian_filter(rng.normal(size=SHAPE), 1.5) for _ in range(4)]
    smooth = gaussian_filter(rng.normal(size=SHAPE), 2) * 10
    maps = np.stack([np.digitize(smooth + s * 3, (-0.3, 0.6)) for s in shift[:3]]).astype(np.uint8)
    images = np.stack([smooth + s * 3 for s in shift[:3]]).astype(np.float32)[:, None] / 5
    target = (smooth + shift[3] * 3).astype(np.float32)[None] / 5
    return Candidates(maps, classes=3, images=images, target=target)


def log_odds(rule: GenerativeFusion, candidates: Candidates) -> np.ndarray:
    """``(N, K, *spatial)``, scaled and cut distances."""
    distance = np.array(
        [[signed_distance(one == label) for label in range(candidates.classes)] for one in candidates.labels]
    )
    return rule.rho * np.clip(distance, -rule.reach, rule.reach)


def plain(rule: GenerativeFusion, candidates: Candidates, disputed: np.ndarray) -> np.ndarray:
    """Label probabilities ``(K, *spatial)`` as the formulas read, on the whole grid at once."""
    odds = log_odds(rule, candidates)
    images, target = candidates.intensities("plain")
    evidence = -((images - target) ** 2).sum(axis=1) / (2 * rule.sigma**2)
    if rule.beta == 0:
        joint = np.exp(evidence)[:, None] * softmax(odds, axis=1)
        return joint.sum(axis=0) / joint.sum(axis=(0, 1))
    prior = np.log(softmax(odds, axis=1))
    membership = softmax(evidence, axis=0) * disputed
    for _ in range(rule.iterations):
        labels = (membership[:, None] * odds).sum(axis=0).argmax(axis=0)
        field = np.zeros_like(membership)
        for axis in (1, 2, 3):
            for one, other in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
                to, away = [slice(None)] * 4, [slice(None)] * 4
                to[axis], away[axis] = one, other
                field[tuple(to)] += membership[tuple(away)]
        chosen = np.take_along_axis(prior, labels[None, None], axis=1)[:, 0]
        membership = softmax(evidence + chosen + rule.beta * field, axis=0) * disputed
    return softmax((membership[:, None] * odds).sum(axis=0), axis=0)


@pytest.mark.parametrize("beta", [0.0, 0.75, 2.0])
def test_agrees_with_the_formulas(candidates: Candidates, beta: float) -> None:
    rule = GenerativeFusion(sigma=0.2, beta=beta)
    fused = rule.fuse(candidates)
    disputed = (candidates.labels != candidates.labels[0]).any(axis=0)
    assert 0.1 < disputed.mean() < 0.9
    assert fused.probabilities is not None
    expected = plain(rule, candidates, disputed)
    np.testing.assert_allclose(fused.probabilities[:, disputed], expected[:, disputed], atol=2e-3)
    np.testing.assert_array_equal(fused.labels[~disputed], candidates.labels[0][~disputed])
    np.testing.assert_allclose(fused.probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(fused.probabilities.argmax(axis=0), fused.labels)


@pytest.mark.parametrize("beta", [0.0, 0.75])
def test_slabs_change_nothing(candidates: Candidates, beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = GenerativeFusion(beta=beta, iterations=3)
    whole = rule.fuse(candidates)
    monkeypatch.setattr("atlaseg.atlases.fusion.generative.SLAB_BYTES", 4 * 48 * 30)
    parts = rule.fuse(candidates)
    np.testing.assert_array_equal(whole.labels, parts.labels)
    assert whole.probabilities is not None
    assert parts.probabilities is not None
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=1e-5)


def test_follows_the_atlas_that_looks_like_the_scan(candidates: Candidates) -> None:
    assert candidates.images is not None
    same = replace(candidates, target=candidates.images[1])
    for beta in (0.0, 0.75):
        labels = GenerativeFusion(sigma=0.01, beta=beta).fuse(same, probabilities=False).labels
        assert (labels == candidates.labels[1]).mean() > 0.99


@pytest.mark.parametrize("beta", [0.0, 0.75])
def test_an_atlas_that_saw_nothing_says_nothing(candidates: Candidates, beta: float) -> None:
    assert candidates.images is not None
    rule = GenerativeFusion(beta=beta)
    inside = np.ones(candidates.labels.shape, bool)
    inside[2] = False
    blind = rule.fuse(replace(candidates, inside=inside))
    without = rule.fuse(replace(candidates, labels=candidates.labels[:2], images=candidates.images[:2]))
    np.testing.assert_array_equal(blind.labels, without.labels)
    assert blind.probabilities is not None
    assert without.probabilities is not None
    np.testing.assert_allclose(blind.probabilities, without.probabilities, atol=1e-5)


def test_steepness_is_per_unit_of_spacing(candidates: Candidates) -> None:
    voxels = GenerativeFusion(rho=1.0).fuse(candidates)
    millimetres = GenerativeFusion(rho=0.5, spacing=(2.0, 2.0, 2.0)).fuse(candidates)
    np.testing.assert_array_equal(voxels.labels, millimetres.labels)


def test_signed_distance_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    mask = gaussian_filter(rng.normal(size=(20, 22, 24)), 3) > 0
    spacing = (0.5, 1.0, 2.0)
    distance = signed_distance(mask, spacing)
    np.testing.assert_allclose(
        -distance[~mask], distance_transform_edt(~mask, sampling=spacing)[~mask], rtol=1e-5
    )
    border = mask & (distance == 0)
    np.testing.assert_allclose(
        distance[mask], distance_transform_edt(~border, sampling=spacing)[mask], rtol=1e-5
    )
    assert np.isinf(signed_distance(np.ones((2, 2, 2), bool))).all()


def test_needs_images(candidates: Candidates) -> None:
    with pytest.raises(OptionError, match="generative fusion compares intensities"):
        GenerativeFusion().fuse(Candidates(candidates.labels, classes=3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "sigma must be more than 0"),
        ({"rho": float("nan")}, "rho must be more than 0"),
        ({"beta": -1.0}, "beta must be at least 0"),
        ({"iterations": 0}, "iterations at least 1"),
        ({"spacing": (1.0, 1.0, 0.0)}, "spacing must be three sizes"),
    ],
)
def test_options_are_checked(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        GenerativeFusion(**options)
