"""Local weights against the definition, with the window written out voxel by voxel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from atlaseg.atlases.fusion import local_weighted
from atlaseg.atlases.fusion.candidates import Candidates, FusionRule
from atlaseg.atlases.fusion.local_weighted import NOISE, LocalWeighted
from atlaseg.atlases.fusion.majority import Majority
from atlaseg.pipeline.errors import OptionError

SHAPE = (13, 12, 11)


@pytest.fixture
def candidates() -> Candidates:
    """Smooth images, labels that differ in two places far apart."""
    rng = np.random.default_rng(0)

    def smooth(channels: int) -> np.ndarray:
        noise = rng.normal(size=(channels, *SHAPE))
        return ndimage.gaussian_filter(noise, (0, 1, 1, 1)).astype(np.float32) * 50 + 1000

    target = smooth(2)
    images = np.stack([target + s * (smooth(2) - 1000) for s in (0.2, 0.5, 1.0)])
    labels = np.zeros((3, *SHAPE), np.uint8)
    labels[:, 2:5, 2:5, 2:5] = rng.integers(0, 3, (3, 3, 3, 3))
    labels[:, 9:11, 6:9, 5:8] = rng.integers(0, 3, (3, 2, 3, 3))
    return Candidates(labels, 3, images, target)


def window_at(voxel: tuple[int, ...], sigma: float, seen: np.ndarray) -> np.ndarray:
    """Weights of all voxels under a cut-off Gaussian, float64, away from the scan's border."""
    reach = int(local_weighted.TRUNCATE * sigma + 0.5)
    window = np.ones(SHAPE)
    for axis, (centre, length) in enumerate(zip(voxel, SHAPE, strict=True)):
        distance = np.abs(np.arange(length) - centre)
        line = np.exp(-(distance**2) / (2 * sigma**2)) * (distance <= reach)
        window *= line.reshape([-1 if a == axis else 1 for a in range(3)])
    window *= seen
    return window / window.sum()


def expected_shares(rule: LocalWeighted, given: Candidates, voxel: tuple[int, ...]) -> np.ndarray:
    assert given.images is not None
    assert given.target is not None
    inside = np.ones(given.labels.shape, bool) if given.inside is None else given.inside
    disputed = ((given.labels != given.labels[0]) & inside).any(axis=0)
    shares = np.zeros(given.classes)
    for labels, image, seen in zip(given.labels, given.images, inside, strict=True):
        if not seen[voxel]:
            continue
        w = window_at(voxel, rule.sigma, seen)
        measured = []
        for a, b in zip(image.astype(float), given.target.astype(float), strict=True):
            variance = b[disputed].var()
            if rule.metric == "ssd":
                measured.append((w * (a - b) ** 2).sum() / variance)
            else:
                x, y = a - (w * a).sum(), b - (w * b).sum()
                spread = ((w * x * x).sum() / variance + NOISE) * ((w * y * y).sum() / variance + NOISE)
                measured.append(max(0, (w * x * y).sum() / variance) / np.sqrt(spread))
        similar = 1 / (np.mean(measured) + NOISE) if rule.metric == "ssd" else np.mean(measured)
        shares[labels[voxel]] += similar**rule.power
    return shares / shares.sum()


@pytest.mark.parametrize("metric", ["ssd", "ncc"])
@pytest.mark.parametrize("partly_seen", [False, True])
def test_shares_follow_the_definition(candidates: Candidates, metric: str, partly_seen: bool) -> None:
    if partly_seen:
        inside = np.ones(candidates.labels.shape, bool)
        inside[1, :4] = False
        inside[2, :, 7:] = False
        candidates = Candidates(candidates.labels, 3, candidates.images, candidates.target, inside)
    rule = LocalWeighted(metric, sigma=0.7, power=1.5)  # type: ignore[arg-type]
    fused = rule.fuse(candidates)
    assert fused.probabilities is not None
    assert rule.reach == 2
    for voxel in [(2, 3, 4), (4, 2, 2), (3, 4, 3), (4, 4, 4), (9, 6, 5), (10, 8, 7), (10, 7, 6)]:
        expected = expected_shares(rule, candidates, voxel)
        np.testing.assert_allclose(fused.probabilities[:, *voxel], expected, atol=1e-3)


@pytest.mark.parametrize("metric", ["ssd", "ncc"])
def test_blocks_of_any_thickness_give_the_same(
    candidates: Candidates, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = LocalWeighted(metric, sigma=0.4)  # type: ignore[arg-type]
    whole = rule.fuse(candidates)
    monkeypatch.setattr("atlaseg.atlases.fusion.voting.SLAB_BYTES", 1)
    parts = rule.fuse(candidates)
    np.testing.assert_array_equal(whole.labels, parts.labels)
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=1e-6)


def test_what_an_atlas_has_not_seen_does_not_count(candidates: Candidates) -> None:
    assert candidates.images is not None
    inside = np.ones(candidates.labels.shape, bool)
    inside[0, :4] = False
    images = candidates.images.copy()
    images[0, :, :4] = 0
    for metric in ("ssd", "ncc"):
        rule = LocalWeighted(metric)  # type: ignore[arg-type]
        clean = rule.fuse(Candidates(candidates.labels, 3, candidates.images, candidates.target, inside))
        spoilt = rule.fuse(Candidates(candidates.labels, 3, images, candidates.target, inside))
        np.testing.assert_allclose(clean.probabilities, spoilt.probabilities, atol=1e-4)


def test_each_place_believes_the_atlas_that_fits_there() -> None:
    rng = np.random.default_rng(3)
    target = rng.normal(size=(1, 24, 10, 10)).astype(np.float32)
    images = rng.normal(size=(3, 1, 24, 10, 10)).astype(np.float32)
    images[0, :, :12], images[2, :, 12:] = target[:, :12], target[:, 12:]
    labels = np.stack([np.full(target.shape[1:], n, np.uint8) for n in (2, 1, 0)])
    for metric in ("ssd", "ncc"):
        found = LocalWeighted(metric).fuse(Candidates(labels, 3, images, target)).labels  # type: ignore[arg-type]
        assert (found[:8] == 2).all()
        assert (found[16:] == 0).all()


def test_power_of_zero_is_majority_vote(candidates: Candidates) -> None:
    fused = LocalWeighted(power=0).fuse(candidates)
    expected = Majority().fuse(candidates)
    assert np.array_equal(fused.labels, expected.labels)
    assert np.array_equal(fused.probabilities, expected.probabilities)


def test_great_powers_leave_the_decision_to_the_best_atlas(candidates: Candidates) -> None:
    fused = LocalWeighted(power=1000).fuse(candidates)
    assert np.array_equal(fused.labels, candidates.labels[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "mi"}, "'mi'; choose one of ssd, ncc"),
        ({"sigma": 0}, "sigma must be more than 0 voxels, found 0"),
        ({"sigma": float("inf")}, "sigma must be more than 0 voxels, found inf"),
        ({"power": -1}, "power must be 0 or more, found -1"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LocalWeighted(**options)


def roughly_aligned(folder: Path, names: list[str]) -> tuple[Candidates, np.ndarray]:
    """All but the first mouse as atlases of the first, moved by position and extent of their masks; its labels."""
    import nibabel as nib

    def read(kind: str, name: str) -> np.ndarray:
        return np.asanyarray(nib.load(folder / kind / name).dataobj)

    def frame(name: str) -> tuple[np.ndarray, np.ndarray]:
        places = np.argwhere(read("masks", name) > 0).astype(float)
        return places.mean(axis=0), places.std(axis=0)

    def scaled(name: str) -> np.ndarray:
        image, brain = read("images", name), read("masks", name) > 0
        return ((image - image[brain].mean()) / image[brain].std()).astype(np.float32)

    (centre, extent), truth = frame(names[0]), read("labels", names[0])
    images, labels = [], []
    for name in names[1:]:
        c, e = frame(name)
        map_ = {"matrix": np.diag(e / extent), "offset": c - e / extent * centre, "output_shape": truth.shape}
        images.append(ndimage.affine_transform(scaled(name), order=1, **map_)[None])
        labels.append(ndimage.affine_transform(read("labels", name).astype(np.uint8), order=0, **map_))
    return Candidates(np.stack(labels), 41, np.stack(images), scaled(names[0])[None]), truth


@pytest.mark.thorough
@pytest.mark.real
def test_is_better_than_majority_vote_on_mice_that_are_roughly_aligned(real_data: Path) -> None:
    folder = real_data / "mouse_brain_fvb"
    names = sorted(path.name for path in (folder / "images").glob("*.nii.gz"))[:4]
    candidates, truth = roughly_aligned(folder, names)

    def dice(rule: FusionRule) -> float:
        found = rule.fuse(candidates, probabilities=False).labels
        each = [
            2 * ((found == k) & (truth == k)).sum() / ((found == k).sum() + (truth == k).sum())
            for k in np.unique(truth[truth > 0])
        ]
        return float(np.mean(each))

    majority = dice(Majority())
    assert majority > 0.4
    assert dice(LocalWeighted()) > majority + 0.01
