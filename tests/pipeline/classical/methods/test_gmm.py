"""Gaussian mixture: against scikit-learn, and what expectation maximisation must hold to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.classical.bias_field import field_at, polynomial_basis
from atlaseg.pipeline.classical.methods.gmm import (
    SMALLEST_VARIANCE,
    GmmOptions,
    fit_mixture,
    gaussian_mixture,
)
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError


def _draws(rng, count=6000, channels=2):
    means = np.array([[0.0, 0.0], [3.0, 1.0], [5.0, -2.0]])[:, :channels]
    labels = rng.choice(3, count, p=[0.5, 0.3, 0.2])
    roots = np.array([[[0.5, 0.0], [0.2, 0.4]], [[0.6, 0.0], [-0.3, 0.5]], [[0.3, 0.0], [0.0, 0.8]]])
    noise = np.einsum(
        "nij,nj->ni", roots[labels][:, :channels, :channels], rng.normal(size=(count, channels))
    )
    return means[labels] + noise, labels


@pytest.mark.parametrize("channels", [1, 2])
def test_agrees_with_scikit_learn(channels):
    from sklearn.mixture import GaussianMixture

    samples, _ = _draws(np.random.default_rng(1), channels=channels)
    ours = fit_mixture(samples, 3, tolerance=1e-10, max_iterations=1000)
    theirs = GaussianMixture(3, tol=1e-10, max_iter=1000, random_state=0).fit(samples)
    order = np.argsort(theirs.means_[:, 0])
    np.testing.assert_allclose(ours.means, theirs.means_[order], atol=2e-3)
    np.testing.assert_allclose(ours.covariances, theirs.covariances_[order], atol=2e-3)
    np.testing.assert_allclose(ours.weights, theirs.weights_[order], atol=2e-3)
    assert ours.log_likelihood[-1] == pytest.approx(theirs.score(samples), abs=1e-6)
    np.testing.assert_allclose(
        ours.posteriors(samples)[0], theirs.predict_proba(samples)[:, order], atol=5e-3
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    components=st.integers(1, 5),
    channels=st.integers(1, 3),
    decimals=st.integers(0, 6),
    with_prior=st.booleans(),
    order=st.integers(0, 2),
)
def test_likelihood_never_falls(seed, components, channels, decimals, with_prior, order):
    rng = np.random.default_rng(seed)
    samples = rng.gamma(2.0, 2.0, (300, channels)).round(decimals)  # nothing like a mixture of Gaussians
    prior = rng.dirichlet(np.full(components, 0.3), 300) if with_prior else None
    basis = polynomial_basis(np.arange(300), (5, 6, 10), order) if order else None
    history = fit_mixture(samples, components, prior=prior, basis=basis, max_iterations=30).log_likelihood
    assert np.isfinite(history).all()
    assert (np.diff(history) >= -1e-9 * np.abs(history[:-1]) - 1e-10).all()


def test_a_class_of_one_value_does_not_break_the_likelihood():
    samples = np.concatenate([np.zeros(500), np.random.default_rng(0).normal(5, 1, 500)])[:, None]
    mixture = fit_mixture(samples, 2)
    assert mixture.converged
    np.testing.assert_allclose(mixture.covariances[0], SMALLEST_VARIANCE * samples.var(), rtol=1e-6)
    assert mixture.weights == pytest.approx([0.5, 0.5], abs=1e-3)


def test_prior_decides_where_intensities_cannot():
    voxels = np.random.default_rng(0).normal(size=(1, 10, 10, 10))
    prior = np.stack([np.full((10, 10, 10), 0.9), np.full((10, 10, 10), 0.1)])
    prior[:, 5:] = prior[::-1, 5:]
    posteriors, _ = gaussian_mixture(voxels, 2, prior=prior, max_iterations=1)
    assert (posteriors.argmax(axis=0)[:5] == 0).mean() > 0.95
    assert (posteriors.argmax(axis=0)[5:] == 1).mean() > 0.95


@pytest.mark.parametrize("channels", [1, 2])
def test_recovers_a_bias_field(channels):
    rng = np.random.default_rng(3)
    shape = (24, 24, 24)
    labels = rng.integers(0, 3, shape)
    basis = polynomial_basis(np.arange(24**3), shape, 2)
    coefficients = rng.normal(0, 0.12, (channels, basis.shape[1]))
    gain = field_at(basis, coefficients).T.reshape(channels, *shape)
    voxels = 10 + gain * np.array([1.0, 2.0, 3.0])[labels] + rng.normal(0, 0.1, (channels, *shape))
    posteriors, mixture = gaussian_mixture(voxels, 3, bias_order=2, zero=10)
    plain, _ = gaussian_mixture(voxels, 3)
    np.testing.assert_allclose(mixture.bias, coefficients, atol=0.02)
    np.testing.assert_allclose(mixture.means, np.tile([[1.0], [2.0], [3.0]], channels), atol=0.03)
    assert (posteriors.argmax(axis=0) == labels).mean() > 0.995 > (plain.argmax(axis=0) == labels).mean()


def test_a_draw_of_the_voxels_is_enough():
    rng = np.random.default_rng(0)
    voxels = _draws(rng, 20**3)[0].T.reshape(2, 20, 20, 20)
    every, few = (gaussian_mixture(voxels, 3, max_samples=n)[0] for n in (10**6, 2000))
    assert (every.argmax(axis=0) == few.argmax(axis=0)).mean() > 0.99


def test_options_run_on_a_scan_inside_its_mask():
    rng = np.random.default_rng(0)
    mask = np.zeros((8, 9, 10), bool)
    mask[2:6, 2:7, 1:8] = True
    scan = Scan.of(rng.normal(size=(2, 8, 9, 10)), mask=mask)
    posteriors = GmmOptions(components=3).classes(scan).posteriors
    assert posteriors is not None
    assert posteriors.dtype == np.float32
    assert not posteriors[:, ~mask].any()
    np.testing.assert_allclose(posteriors[:, mask].sum(axis=0), 1, atol=1e-5)
    with_prior = Scan.of(scan.voxels, mask=mask, prior=np.full((2, 8, 9, 10), 0.5))
    assert len(GmmOptions(components=3).classes(with_prior).posteriors) == 3
    assert len(GmmOptions(components=3, use_prior=True).classes(with_prior).posteriors) == 2


def test_bad_input():
    voxels = np.random.default_rng(0).normal(size=(1, 4, 4, 4))
    with pytest.raises(OptionError, match="3 classes are more than the 2 different values"):
        gaussian_mixture((voxels > 0).astype(float), 3)
    with pytest.raises(OptionError, match="at least 1 class"):
        gaussian_mixture(voxels, 0)
    with pytest.raises(OptionError, match="bias_order"):
        gaussian_mixture(voxels, 2, bias_order=9)
    with pytest.raises(OptionError, match="max_iterations"):
        gaussian_mixture(voxels, 2, max_iterations=0)
    with pytest.raises(GeometryError, match="one map for each class"):
        gaussian_mixture(voxels, 2, prior=np.ones((3, 4, 4, 4)))
    with pytest.raises(GeometryError, match="samples by classes"):
        fit_mixture(np.arange(5.0)[:, None], 2, prior=np.ones((4, 2)))
    with pytest.raises(GeometryError, match="mask has shape"):
        gaussian_mixture(voxels, 2, mask=np.ones((4, 4, 5), bool))
    with pytest.raises(GeometryError, match="expected a volume"):
        gaussian_mixture(voxels[0], 2)
    with pytest.raises(DatasetError, match="mask is empty"):
        gaussian_mixture(voxels, 2, mask=np.zeros((4, 4, 4), bool))
    voxels[0, 1, 1, 1] = np.nan
    with pytest.raises(DatasetError, match="NaN"):
        gaussian_mixture(voxels, 2)
