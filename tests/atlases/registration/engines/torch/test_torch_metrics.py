"""Measures of likeness, beside numpy's, and their derivatives, beside differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from atlaseg.atlases.registration.engines.torch.torch_metrics import likeness
from atlaseg.pipeline.errors import OptionError

SHAPE = (9, 8, 7)
METRICS = ("ssd", "ncc", "lncc")


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two volumes in [0, 1] that have something in common."""
    rng = np.random.default_rng(0)
    common, own, other = (ndimage.gaussian_filter(rng.normal(size=SHAPE), 0.8) for _ in range(3))
    fixed, moved = common + 0.5 * own, common + 0.5 * other
    scaled = [(v - v.min()) / (v.max() - v.min()) for v in (fixed, moved)]
    return torch.from_numpy(scaled[0]), torch.from_numpy(scaled[1])


def weights(kind: str) -> torch.Tensor | None:
    if kind == "none":
        return None
    soft = np.random.default_rng(1).uniform(size=SHAPE)
    if kind == "mask":
        soft = (soft > 0.4).astype(float)
        soft[:4] = 0
    return torch.from_numpy(soft)


@pytest.mark.parametrize("weight", ["none", "soft", "mask"])
@pytest.mark.parametrize("metric", METRICS)
def test_derivative_is_that_of_differences(metric: str, weight: str) -> None:
    fixed, moved = pair()
    alike, weighing = likeness(metric, fixed, 2), weights(weight)
    value, pull = alike(moved, weighing)
    assert value.shape == ()
    step = 1e-6
    for place in [(0, 0, 0), (4, 4, 3), (8, 7, 6), (5, 0, 3), (2, 3, 6), (7, 5, 1)]:
        up, down = moved.clone(), moved.clone()
        up[place] += step
        down[place] -= step
        slope = (alike(up, weighing)[0] - alike(down, weighing)[0]) / (2 * step) * moved.numel()
        assert float(pull[place]) == pytest.approx(float(slope), rel=1e-5, abs=1e-6), place


@pytest.mark.parametrize("metric", METRICS)
def test_equal_weights_are_none(metric: str) -> None:
    fixed, moved = pair()
    alike = likeness(metric, fixed, 2)
    value, pull = alike(moved, None)
    weighed, weighed_pull = alike(moved, torch.full(SHAPE, 0.25, dtype=torch.float64))
    assert float(weighed) == pytest.approx(float(value), rel=1e-9)
    torch.testing.assert_close(weighed_pull, pull, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_what_has_no_weight_does_not_count(metric: str) -> None:
    fixed, moved = pair()
    mask = weights("mask")
    assert mask is not None
    spoilt, torn = fixed.clone(), moved.clone()
    spoilt[mask == 0], torn[mask == 0] = 7.0, -5.0
    value, pull = likeness(metric, fixed, 2)(moved, mask)
    again, pull_again = likeness(metric, spoilt, 2)(torn, mask)
    assert float(again) == pytest.approx(float(value), rel=1e-9)
    assert (pull[mask == 0] == 0).all()
    torch.testing.assert_close(pull_again, pull, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_no_weight_at_all_pulls_nowhere(metric: str) -> None:
    fixed, moved = pair()
    value, pull = likeness(metric, fixed, 2)(moved, torch.zeros(SHAPE, dtype=torch.float64))
    assert torch.isfinite(value)
    assert (pull == 0).all()


def test_squared_difference_is_that_of_numpy() -> None:
    fixed, moved = pair()
    found, _ = likeness("ssd", fixed, None)(moved, None)
    assert float(found) == pytest.approx(-float(((fixed - moved) ** 2).mean()))
    weight = weights("soft")
    found, _ = likeness("ssd", fixed, None)(moved, weight)
    assert float(found) == pytest.approx(-np.average((fixed - moved).numpy() ** 2, weights=weight))


def test_global_correlation_is_that_of_numpy() -> None:
    fixed, moved = pair()
    found, _ = likeness("ncc", fixed, None)(moved, None)
    assert float(found) == pytest.approx(np.corrcoef(fixed.ravel(), moved.ravel())[0, 1], rel=1e-6)
    weight = weights("soft")
    found, _ = likeness("ncc", fixed, None)(moved, weight)
    assert weight is not None
    covariance = np.cov(fixed.ravel(), moved.ravel(), aweights=weight.ravel())
    wanted = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert float(found) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_local_correlation_is_that_of_every_window(masked: bool) -> None:
    fixed, moved = pair()
    mask = weights("mask") if masked else None
    counts = np.ones(SHAPE, bool) if mask is None else mask.numpy() > 0
    squares = []
    for place in np.argwhere(counts):
        window = tuple(slice(max(0, p - 2), p + 3) for p in place)
        inside = counts[window]
        a, b = fixed.numpy()[window][inside], moved.numpy()[window][inside]
        # a variance of 1e-5 is what it takes for no contrast
        covariance = np.cov(a, b, bias=True)
        squares.append(covariance[0, 1] ** 2 / ((covariance[0, 0] + 1e-5) * (covariance[1, 1] + 1e-5)))
    found, _ = likeness("lncc", fixed, 2)(moved, mask)
    assert float(found) == pytest.approx(np.mean(squares), rel=1e-6)


def test_local_correlation_does_not_mind_contrast() -> None:
    fixed, moved = pair()
    field = torch.linspace(0.95, 1.05, SHAPE[0], dtype=torch.float64)[:, None, None]
    alike = likeness("lncc", fixed, 2)
    assert float(alike(fixed, None)[0]) == pytest.approx(1, abs=0.01)
    # turned round, under a bias field
    assert float(alike(0.3 - field * fixed, None)[0]) > 0.9
    assert float(alike(moved, None)[0]) < 0.8


@pytest.mark.parametrize("metric", METRICS)
def test_volumes_without_contrast_pull_nowhere_far(metric: str) -> None:
    flat = torch.full(SHAPE, 0.5, dtype=torch.float32)
    value, pull = likeness(metric, flat, 2)(flat, None)
    assert abs(float(value)) < 1e-6
    assert float(pull.abs().max()) < 1e-3


def test_an_unknown_metric_is_one_line() -> None:
    with pytest.raises(OptionError, match="torch has no metric 'mi'; choose one of ssd, ncc, lncc"):
        likeness("mi", pair()[0], None)
