"""Global weights against scikit-learn's and scikit-image's measures of similarity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import mean_squared_error
from sklearn.metrics import mutual_info_score

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.fusion.global_weighted import GlobalWeighted
from atlaseg.atlases.fusion.majority import Majority
from atlaseg.pipeline.errors import OptionError


@pytest.fixture
def candidates() -> Candidates:
    """Three atlases whose images are the scan and more and more noise; labels differ in one corner only."""
    rng = np.random.default_rng(0)
    shape = (14, 15, 16)
    target = rng.normal(size=(1, *shape)).astype(np.float32)
    images = np.stack([target + rng.normal(0, s, target.shape) for s in (0.3, 0.6, 1.2)]).astype(np.float32)
    labels = np.zeros((3, *shape), np.uint8)
    labels[:, :, :, 8:] = 1
    labels[:, :9, :9, :9] = rng.integers(0, 2, (3, 9, 9, 9))
    return Candidates(labels, 2, images, target)


def region_of(candidates: Candidates, margin: int) -> np.ndarray:
    disputed = (candidates.labels != candidates.labels[0]).any(axis=0)
    return ndimage.binary_dilation(disputed, np.ones((3, 3, 3)), iterations=margin) if margin else disputed


def theirs(metric: str, a: np.ndarray, b: np.ndarray) -> float:
    if metric == "ncc":
        return float(np.corrcoef(a, b)[0, 1])
    if metric == "mse":
        return 1 / mean_squared_error(a, b)
    bins = min(32, int(np.sqrt(a.size / 5)))
    cells = [np.digitize(v, np.histogram_bin_edges(v, bins)[1:-1]) for v in (a, b)]
    return float(mutual_info_score(*cells))


@pytest.mark.parametrize("metric", ["ncc", "mse", "mi"])
@pytest.mark.parametrize(("power", "margin"), [(1.0, 0), (3.0, 2)])
def test_weights_are_the_similarity_around_the_dispute(
    candidates: Candidates, metric: str, power: float, margin: int
) -> None:
    assert candidates.images is not None
    assert candidates.target is not None
    place = region_of(candidates, margin)
    similar = [theirs(metric, image[0][place], candidates.target[0][place]) for image in candidates.images]
    expected = np.array(similar) ** power
    details = GlobalWeighted(metric, power, margin).fuse(candidates).details  # type: ignore[arg-type]
    assert details is not None
    np.testing.assert_allclose(details["weights"], expected / expected.sum(), rtol=1e-4)


def test_what_an_atlas_has_not_seen_does_not_count(candidates: Candidates) -> None:
    assert candidates.images is not None
    inside = np.ones(candidates.labels.shape, bool)
    inside[0, :4] = False
    images = candidates.images.copy()
    images[0, :, :4] = 1000
    rule = GlobalWeighted()
    clean = rule.fuse(Candidates(candidates.labels, 2, candidates.images, candidates.target, inside))
    spoilt = rule.fuse(Candidates(candidates.labels, 2, images, candidates.target, inside))
    assert clean.details == spoilt.details
    assert np.array_equal(clean.labels, spoilt.labels)


def test_power_of_zero_is_majority_vote(candidates: Candidates) -> None:
    fused = GlobalWeighted(power=0).fuse(candidates)
    expected = Majority().fuse(candidates)
    assert np.array_equal(fused.labels, expected.labels)
    assert np.array_equal(fused.probabilities, expected.probabilities)


def test_atlases_unlike_the_scan_vote_equally(candidates: Candidates) -> None:
    assert candidates.images is not None
    opposite = Candidates(candidates.labels, 2, -candidates.images, candidates.target)
    fused = GlobalWeighted("ncc").fuse(opposite)
    assert fused.details == {"weights": pytest.approx([1 / 3] * 3)}
    assert np.array_equal(fused.labels, Majority().fuse(candidates).labels)


def test_atlas_without_contrast_has_no_weight(candidates: Candidates) -> None:
    assert candidates.images is not None
    images = candidates.images.copy()
    images[2] = 5
    details = GlobalWeighted("ncc").fuse(Candidates(candidates.labels, 2, images, candidates.target)).details
    assert details is not None
    assert details["weights"][2] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "ssd"}, "'ssd'; choose one of ncc, mse, mi"),
        ({"power": -1}, "power must be 0 or more, found -1"),
        ({"power": float("nan")}, "power must be 0 or more, found nan"),
        ({"margin": -1}, "margin must be 0 voxels or more, found -1"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        GlobalWeighted(**options)
