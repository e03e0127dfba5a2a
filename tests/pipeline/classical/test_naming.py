"""Naming: features beside scipy's own sums, votes of known answers, and the rule that joins look and place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from atlaseg.pipeline.classical import Classes, Scan
from atlaseg.pipeline.classical.naming import Naming, class_features, named_probabilities
from atlaseg.pipeline.errors import DatasetError

SHAPE = (12, 12, 12)


def example(seed: int = 0) -> tuple[Scan, np.ndarray, Classes]:
    """Two halves of different brightness, their labels, and the halves cut into eight regions each."""
    labels = np.zeros(SHAPE, dtype=np.int64)
    labels[6:] = 1
    rng = np.random.default_rng(seed)
    scan = Scan.of(labels + 0.05 * rng.standard_normal(SHAPE))
    x, y, z = np.indices(SHAPE)
    regions = 1 + (x // 3) + 4 * (y // 6) + 8 * (z // 6)
    return scan, labels, Classes(regions=regions.astype(np.int32))


def soft(classes: Classes) -> Classes:
    assert classes.regions is not None
    number = np.arange(1, classes.regions.max() + 1)
    return Classes(posteriors=(classes.regions[None] == number[:, None, None, None]).astype(np.float32))


def flat(classes: int) -> np.ndarray:
    return np.full((classes, *SHAPE), 1 / classes, dtype=np.float32)


def test_features_beside_scipy() -> None:
    scan, _, classes = example()
    features, sizes = class_features(scan, classes)
    index = np.arange(1, 17)
    np.testing.assert_allclose(
        features[:, 0], ndimage.mean(scan.voxels[0], classes.regions, index), rtol=1e-5
    )
    expected = ndimage.standard_deviation(scan.voxels[0], classes.regions, index)
    np.testing.assert_allclose(features[:, 1], expected, rtol=1e-4)
    np.testing.assert_allclose(np.exp(features[:, 2]), 1 / 16)
    assert sizes.tolist() == [108] * 16


def test_hard_and_soft_classes_have_the_same_features() -> None:
    scan, _, classes = example()
    for hard, smooth in zip(class_features(scan, classes), class_features(scan, soft(classes)), strict=True):
        np.testing.assert_allclose(hard, smooth, rtol=1e-5)


@pytest.mark.parametrize("form", ["regions", "posteriors"])
def test_names_by_look_alone(form: str) -> None:
    def method(scan: Scan) -> Classes:
        classes = example()[2]
        return classes if form == "regions" else soft(classes)

    training = [example(seed)[:2] for seed in (1, 2)]
    naming = Naming.learn(method, [s for s, _ in training], [t for _, t in training], 2)
    scan, labels, _ = example()
    chances = named_probabilities(scan, method(scan), naming, flat(2))
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(chances.argmax(axis=0), labels)


def test_look_that_says_nothing_leaves_the_prior() -> None:
    scan, labels, _ = example()
    one = Classes(posteriors=np.ones((1, *SHAPE), dtype=np.float32))
    naming = Naming.learn(lambda _: one, [scan], [labels], 2)
    prior = np.stack([np.full(SHAPE, 0.3), np.full(SHAPE, 0.7)]).astype(np.float32)
    np.testing.assert_allclose(named_probabilities(scan, one, naming, prior), prior, atol=1e-3)


def test_lines_between_regions_keep_the_prior_and_outside_is_background() -> None:
    scan, labels, classes = example()
    assert classes.regions is not None
    mask = np.ones(SHAPE, dtype=bool)
    mask[:, :, 0] = False
    masked = Scan.of(scan.voxels, mask=mask)
    regions = np.where(mask, classes.regions, 0)
    regions[:, 6] = 0
    lined = Classes(regions=regions.astype(np.int32))
    naming = Naming.learn(lambda _: lined, [masked], [labels], 2)
    prior = np.stack([np.full(SHAPE, 0.4), np.full(SHAPE, 0.6)]).astype(np.float32)
    chances = named_probabilities(masked, lined, naming, prior)
    np.testing.assert_allclose(chances[1][:, 6, 1:], 0.6, atol=1e-5)
    assert (chances[0][:, :, 0] == 1).all()


def test_nothing_to_learn_from() -> None:
    with pytest.raises(DatasetError, match="no labelled scan"):
        Naming.learn(lambda _: example()[2], [], [], 2)
    with pytest.raises(DatasetError, match="neither regions nor classes"):
        Naming.learn(lambda _: Classes(), [example()[0]], [example()[1]], 2)


def test_named_classes_keep_their_probabilities() -> None:
    scan, _, _ = example()
    mask = np.ones(SHAPE, dtype=bool)
    mask[0] = False
    masked = Scan.of(scan.voxels, mask=mask)
    chances = np.stack([np.where(mask, 0.2, 0), np.where(mask, 0.8, 0)]).astype(np.float32)
    naming = Naming(np.zeros((1, 3), np.float32), np.ones((1, 2), np.float32), np.ones(3, np.float32), 1)
    prior = np.stack([np.full(SHAPE, 0.9), np.full(SHAPE, 0.1)]).astype(np.float32)
    found = named_probabilities(masked, Classes(posteriors=chances, named=True), naming, prior)
    np.testing.assert_array_equal(found[:, mask], chances[:, mask])
    assert (found[0, ~mask] == 1).all()


@pytest.mark.parametrize("form", ["regions", "posteriors"])
def test_votes_are_voxels_of_each_label(form: str) -> None:
    scan, labels, classes = example()
    labels[0, 0] = 2
    found = classes if form == "regions" else soft(classes)
    votes = Naming.learn(lambda _: found, [scan], [labels], 4).votes
    assert classes.regions is not None
    expected = [[((classes.regions == n) & (labels == k)).sum() for k in range(4)] for n in range(1, 17)]
    np.testing.assert_allclose(votes, expected, rtol=1e-6)
