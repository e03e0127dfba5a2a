"""What every fusion rule in the table must do."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from atlaseg.atlases.fusion import voting
from atlaseg.atlases.fusion.candidates import Candidates, Fused, FusionRule
from atlaseg.atlases.fusion.registry import FUSION_RULES, make_rule
from atlaseg.pipeline.errors import OptionError

SHAPE = (14, 15, 16)
LABEL_TYPE = np.uint16
#: Rules that look at labels only; all others compare images with the scan.
LABELS_ONLY = ("majority", "staple")


@pytest.fixture(params=FUSION_RULES.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def rule(name: str) -> FusionRule:
    return make_rule(name)


def field(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Smooth noise of unit variance."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3, mode="wrap")
    return noise / noise.std()


def anatomy(
    shape: tuple[int, ...] = SHAPE, classes: int = 4, seed: int = 0, error: float = 0.0, own: int = 0
) -> np.ndarray:
    """Smooth regions of equal size, one for each label; with an error of an atlas's own that moves their borders."""
    height = field(shape, seed) + error * field(shape, own)
    ranks = height.ravel().argsort().argsort().reshape(shape)
    return (ranks * classes // height.size).astype(LABEL_TYPE)


def picture(labels: np.ndarray, seed: int, channels: int = 1, noise: float = 0.3) -> np.ndarray:
    """A scan of an anatomy: a grey value for each label and noise; channels differ in contrast."""
    rng = np.random.default_rng(seed)
    planes = [labels.astype(float) * (-1) ** channel for channel in range(channels)]
    return np.stack([p + rng.normal(0, noise, labels.shape) for p in planes]).astype(np.float32)


def scene(
    count: int = 5, shape: tuple[int, ...] = SHAPE, classes: int = 4, channels: int = 1, error: float = 0.3
) -> tuple[Candidates, np.ndarray]:
    """Candidates of a known anatomy, read-only so that whoever writes to them is found out; and the anatomy."""
    truth = anatomy(shape, classes)
    labels = np.stack([anatomy(shape, classes, error=error, own=own) for own in range(1, count + 1)])
    images = np.stack([picture(atlas, 10 + n, channels) for n, atlas in enumerate(labels)])
    return frozen(Candidates(labels, classes, images, picture(truth, 99, channels))), truth


def frozen(candidates: Candidates) -> Candidates:
    for array in (candidates.labels, candidates.images, candidates.target, candidates.inside):
        if array is not None:
            array.flags.writeable = False
    return candidates


def check(fused: Fused, candidates: Candidates) -> None:
    """The promises of :class:`Fused`."""
    assert fused.labels.shape == candidates.spatial_shape
    assert fused.labels.dtype == candidates.labels.dtype
    assert int(fused.labels.max()) < candidates.classes
    assert fused.probabilities is not None
    assert fused.probabilities.shape == (candidates.classes, *candidates.spatial_shape)
    assert fused.probabilities.dtype == np.float32
    assert np.isfinite(fused.probabilities).all()
    assert fused.probabilities.min() >= 0
    np.testing.assert_allclose(fused.probabilities.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(fused.probabilities.argmax(axis=0), fused.labels)


def test_labels_and_probabilities_are_as_promised(rule: FusionRule) -> None:
    candidates, truth = scene()
    fused = rule.fuse(candidates)
    check(fused, candidates)
    single = np.mean([(labels == truth).mean() for labels in candidates.labels])
    assert (fused.labels == truth).mean() > single  # or there would be no point


def test_labels_do_not_depend_on_whether_probabilities_are_wanted(rule: FusionRule) -> None:
    candidates, _ = scene()
    bare = rule.fuse(candidates, probabilities=False)
    assert bare.probabilities is None
    assert np.array_equal(bare.labels, rule.fuse(candidates).labels)


def test_same_candidates_same_result(rule: FusionRule) -> None:
    candidates, _ = scene()
    first, second = rule.fuse(candidates), rule.fuse(candidates)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.probabilities, second.probabilities)
    assert first.details == second.details


def test_atlases_that_agree_are_believed(rule: FusionRule) -> None:
    candidates, truth = scene(error=0)
    fused = rule.fuse(candidates)
    check(fused, candidates)
    assert np.array_equal(fused.labels, truth)


def test_order_of_atlases_does_not_matter(rule: FusionRule) -> None:
    candidates, _ = scene()
    order = [3, 0, 4, 2, 1]
    assert candidates.images is not None
    shuffled = replace(candidates, labels=candidates.labels[order], images=candidates.images[order])
    first, second = rule.fuse(candidates), rule.fuse(shuffled)
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-3)
    assert (first.labels == second.labels).mean() > 0.999


def test_background_is_a_label_like_any_other(rule: FusionRule) -> None:
    truth = np.zeros(SHAPE, LABEL_TYPE)
    truth[4:9, 4:9, 4:9] = 1
    labels = np.stack([truth] * 5)
    labels[0, 9:11, 4:9, 4:9] = 1  # one of five says there is more of the structure ...
    image = picture(truth, 1)
    candidates = frozen(Candidates(labels, 2, np.stack([image] * 5), image))  # ... and all look the same
    fused = rule.fuse(candidates)
    check(fused, candidates)
    assert np.array_equal(fused.labels, truth)
    assert fused.probabilities is not None
    assert fused.probabilities[0, 9:11, 4:9, 4:9].min() > 0.5


@pytest.mark.thorough
def test_many_classes(rule: FusionRule) -> None:
    candidates, _ = scene(count=3, classes=100)
    check(rule.fuse(candidates), candidates)


def test_class_that_no_atlas_has_never_wins(rule: FusionRule) -> None:
    candidates, _ = scene()
    labels = candidates.labels.copy()
    labels[labels >= 2] += 1  # 0, 1, 3, 4 of six
    candidates = frozen(replace(candidates, labels=labels, classes=6))
    fused = rule.fuse(candidates)
    check(fused, candidates)
    assert not np.isin(fused.labels, (2, 5)).any()


def test_single_atlas_is_handed_through(rule: FusionRule) -> None:
    candidates, _ = scene(count=1)
    fused = rule.fuse(candidates)
    check(fused, candidates)
    assert np.array_equal(fused.labels, candidates.labels[0])


def test_two_atlases(rule: FusionRule) -> None:
    candidates, _ = scene(count=2)
    check(rule.fuse(candidates), candidates)


def test_atlases_do_not_vote_outside_their_image(rule: FusionRule) -> None:
    candidates, _ = scene()
    inside = np.ones(candidates.labels.shape, bool)
    inside[:2, :5] = False
    inside[:, :, :2] = False  # nobody
    labels, other = candidates.labels.copy(), candidates.labels.copy()
    labels[~inside], other[~inside] = 2, 3
    fused = rule.fuse(frozen(replace(candidates, labels=labels, inside=inside)))
    again = rule.fuse(frozen(replace(candidates, labels=other, inside=inside)))
    check(fused, candidates)
    assert (fused.labels[:, :2] == 0).all()
    assert np.array_equal(fused.labels, again.labels)
    np.testing.assert_allclose(fused.probabilities, again.probabilities, atol=1e-5)


def test_memory_of_a_slab_changes_nothing(rule: FusionRule, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates, _ = scene()
    whole = rule.fuse(candidates)
    for module in (voting, sys.modules[type(rule).__module__]):  # a rule may have the number by name
        monkeypatch.setattr(module, "SLAB_BYTES", 2**14, raising=False)
    parts = rule.fuse(candidates)
    assert np.array_equal(whole.labels, parts.labels)
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in FUSION_RULES.names() if name not in LABELS_ONLY])
def test_atlas_that_looks_like_the_scan_wins(name: str) -> None:
    truth, wrong = anatomy(), anatomy(seed=5)
    target = picture(truth, 99)
    # four atlases of somebody else agree with each other, the fifth is the scan itself
    images = np.stack([*(picture(wrong, seed) for seed in range(4)), target])
    labels = np.stack([wrong] * 4 + [truth])
    fused = make_rule(name).fuse(frozen(Candidates(labels, 4, images, target)))
    assert (fused.labels == truth).mean() > 0.95


@pytest.mark.parametrize("lacking", [("images",), ("target",), ("images", "target")])
def test_rule_that_compares_intensities_says_that_it_lacks_them(
    name: str, rule: FusionRule, lacking: tuple[str, ...]
) -> None:
    candidates, _ = scene()
    given = replace(candidates, **dict.fromkeys(lacking))
    if name in LABELS_ONLY:
        assert np.array_equal(rule.fuse(given).labels, rule.fuse(candidates).labels)
        return
    with pytest.raises(OptionError, match=rf"^{name} fusion compares intensities"):
        rule.fuse(given)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_of_one_slice(rule: FusionRule, axis: int) -> None:
    shape = tuple(1 if a == axis else length for a, length in enumerate(SHAPE))
    candidates, _ = scene(shape=shape)
    check(rule.fuse(candidates), candidates)


def test_several_channels(rule: FusionRule) -> None:
    candidates, truth = scene(channels=2)
    fused = rule.fuse(candidates)
    check(fused, candidates)
    assert (fused.labels == truth).mean() > 0.5


def test_images_without_contrast(rule: FusionRule) -> None:
    candidates, _ = scene()
    assert candidates.images is not None
    assert candidates.target is not None
    flat = replace(
        candidates, images=np.full_like(candidates.images, 7), target=np.full_like(candidates.target, 7)
    )
    check(rule.fuse(frozen(flat)), candidates)


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_no_unit_of_intensity_leaves_the_range_of_floats(rule: FusionRule, scale: float) -> None:
    candidates, _ = scene()
    assert candidates.images is not None
    assert candidates.target is not None
    scaled = replace(
        candidates,
        images=candidates.images * np.float32(scale),
        target=candidates.target * np.float32(scale),
    )
    check(rule.fuse(frozen(scaled)), candidates)


def test_rules_are_frozen_dataclasses_that_compare_by_their_options(name: str, rule: FusionRule) -> None:
    assert is_dataclass(rule)
    assert rule == make_rule(name)
    for field in fields(rule):
        with pytest.raises(FrozenInstanceError):
            setattr(rule, field.name, 1)


def test_impossible_options_are_refused(name: str, rule: FusionRule) -> None:
    for field in fields(rule):  # type: ignore[arg-type]
        usual: Any = getattr(rule, field.name)
        impossible: tuple[Any, ...] = ()
        if isinstance(usual, str):
            impossible = ("nonsense",)
        elif isinstance(usual, float):
            impossible = (-1.0, float("nan"))
        elif isinstance(usual, int) and not isinstance(usual, bool):
            impossible = (-1,)
        for value in impossible:
            with pytest.raises(OptionError, match=f"{name}|{field.name}"):
                make_rule(name, **{field.name: value})
