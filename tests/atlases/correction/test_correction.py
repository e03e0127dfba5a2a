"""Corrective learning where the error is known: votes that are always too small, and an informative image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from atlaseg.atlases.correction.correction import Correction, Example
from atlaseg.pipeline.errors import (
    DatasetError,
    MissingFileError,
    OptionError,
    UnreadableFileError,
    UnsafeModelError,
)

SHAPE = (24, 22, 20)


def example(seed, shrink=1.6, channels=1):
    """Two touching structures; fusion sees each of them too small by ``shrink`` voxels."""
    rng = np.random.default_rng(seed)
    centre = np.array(SHAPE) / 2 + rng.uniform(-1.5, 1.5, 3)
    points = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1) - centre
    radius = rng.uniform(5.5, 7)
    distance = np.linalg.norm(points, axis=-1)
    truth = np.where(distance < radius, np.where(points[..., 0] < 0, 1, 2), 0)
    seen = np.where(distance < radius - shrink, np.where(points[..., 0] < 0, 1, 2), 0)
    votes = np.stack([gaussian_filter((seen == k).astype(float), 1.0) for k in range(3)])
    image = (truth > 0) + 0.2 * rng.standard_normal((channels, *SHAPE))
    return Example((votes / votes.sum(axis=0)).astype(np.float32), image.astype(np.float32), truth)


def dice(labels, truth):
    return np.mean(
        [
            2 * ((labels == k) & (truth == k)).sum() / ((labels == k).sum() + (truth == k).sum())
            for k in (1, 2)
        ]
    )


@pytest.fixture(scope="module")
def learnt():
    return Correction.learn([example(seed) for seed in range(6)])


@pytest.mark.thorough
def test_a_systematic_error_is_corrected(learnt):
    for seed in (100, 101, 102):
        new = example(seed)
        before = dice(new.probabilities.argmax(axis=0), new.truth)
        after = dice(learnt.apply(new.probabilities, new.image).argmax(axis=0), new.truth)
        assert before < 0.85
        assert after > before + 0.08


@pytest.mark.thorough
def test_probabilities_stay_probabilities(learnt):
    new = example(7)
    kept = new.probabilities.copy()
    corrected = learnt.apply(new.probabilities, new.image)
    assert corrected.dtype == np.float32
    assert corrected.min() >= 0
    np.testing.assert_allclose(corrected.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(new.probabilities, kept)
    certain = new.probabilities.max(axis=0) >= 0.97
    assert certain.any()
    np.testing.assert_array_equal(corrected[:, certain], new.probabilities[:, certain])


def test_the_brightness_of_a_scan_does_not_matter(learnt):
    new = example(8)
    brighter = learnt.apply(new.probabilities, 1000 * new.image + 300)
    np.testing.assert_allclose(brighter, learnt.apply(new.probabilities, new.image), atol=1e-3)


def test_without_disagreement_nothing_changes(learnt):
    sure = np.zeros((3, *SHAPE), np.float32)
    sure[0] = 1
    np.testing.assert_array_equal(learnt.apply(sure, example(0).image), sure)


@pytest.mark.thorough
def test_same_seed_same_network():
    import torch

    state = torch.get_rng_state()
    few = [example(seed) for seed in range(2)]
    first, second, other = (Correction.learn(few, seed=seed) for seed in (3, 3, 4))
    for name, values in first.arrays.items():
        np.testing.assert_array_equal(values, second.arrays[name])
    assert not np.array_equal(first.arrays["weight0"], other.arrays["weight0"])
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_saved_corrects_the_same(learnt, tmp_path):
    learnt.save(tmp_path / "correction.npz")
    again = Correction.load(tmp_path / "correction.npz")
    new = example(9)
    np.testing.assert_array_equal(
        again.apply(new.probabilities, new.image), learnt.apply(new.probabilities, new.image)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["correction.npz"]


def test_other_files_are_refused(learnt, tmp_path):
    path = tmp_path / "correction.npz"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UnreadableFileError, match="not readable as arrays"):
        Correction.load(path)
    with pytest.raises(MissingFileError, match="no such file"):
        Correction.load(tmp_path / "missing.npz")
    np.savez(path, about=np.array({"format": 1}, dtype=object))
    with pytest.raises(UnsafeModelError, match="holds Python objects"):
        Correction.load(path)
    learnt.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableFileError, match="not readable as arrays"):
        Correction.load(path)
    np.savez(path, about=np.array('{"format": 1, "classes": 3, "channels": 1}'))
    with pytest.raises(UnreadableFileError, match="has no bias0"):
        Correction.load(path)
    np.savez(path, about=np.array('{"format": 99, "classes": 3, "channels": 1}'))
    with pytest.raises(UnreadableFileError, match="format '99'"):
        Correction.load(path)
    for about in ("[]", "{}", "[" * 100_000, "3", '{"format": 1, "classes": "x", "channels": 1}'):
        np.savez(path, about=np.array(about))
        with pytest.raises(UnreadableFileError, match="expected a correction that atlaseg wrote"):
            Correction.load(path)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("weight1", np.zeros((2, 2), np.float32)),
        ("mean", np.zeros((3, 1), np.float32)),
        ("scale", np.array("text")),
        ("bias2", np.array([np.nan], np.float32)),
    ],
)
def test_arrays_of_another_kind_are_refused(learnt, tmp_path, name, wrong):
    path = tmp_path / "correction.npz"
    about = np.array('{"format": 1, "classes": 3, "channels": 1}')
    np.savez(path, about=about, **(learnt.arrays | {name: wrong}))
    with pytest.raises(UnreadableFileError, match=r"correction\.npz: .* is not as atlaseg writes it"):
        Correction.load(path)


def test_other_scans_are_refused(learnt):
    new = example(1, channels=2)
    with pytest.raises(OptionError, match=r"3 classes and 1 channel\(s\), found 3 and 2"):
        learnt.apply(new.probabilities, new.image)
    with pytest.raises(OptionError, match="differ"):
        Correction.learn([example(0), new])


def test_nothing_to_learn_from_is_reported():
    one = example(0)
    sure = np.zeros_like(one.probabilities)
    sure[0] = 1
    for examples in ([], [replace(one, probabilities=sure)]):
        with pytest.raises(DatasetError, match="nothing to learn"):
            Correction.learn(examples)
