"""What a correction sees of a voxel."""

from __future__ import annotations

import numpy as np
import pytest

from atlaseg.atlases.correction.features import CERTAIN, disputed

SHAPE = (9, 8, 7)


def votes(classes=3, seed=0):
    drawn = np.random.default_rng(seed).random((classes, *SHAPE)).astype(np.float32) ** 4
    return drawn / drawn.sum(axis=0)


def image(channels=1):
    return np.random.default_rng(1).random((channels, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize(("classes", "looked_at"), [(2, 2), (4, 4), (9, 4)])
def test_the_most_probable_labels_are_looked_at(classes, looked_at):
    chances = votes(classes)
    found = disputed(chances, image())
    assert found.labels.shape == (len(found.points), looked_at)
    for point, labels in list(zip(found.points, found.labels, strict=True))[::17]:
        here = chances[(slice(None), *point)]
        np.testing.assert_array_equal(here[labels], np.sort(here)[::-1][:looked_at])


def test_voxels_are_those_without_a_certain_label():
    chances = votes()
    chances[:, 2:5] = np.array([1, 0, 0])[:, None, None, None]
    found = disputed(chances, image())
    np.testing.assert_array_equal(found.points, np.argwhere(chances.max(axis=0) < CERTAIN))
    assert not np.isin(found.points[:, 0], (2, 3, 4)).any()


def test_each_candidate_sees_its_own_probability_and_its_name():
    chances = votes(3)
    found = disputed(chances, image())
    # the ball's middle lies half way; before it come the image's ball (33) and its wider means (3)
    middle = found.features[..., 36 + 16]
    here = chances[(slice(None), *found.points.T)].T
    np.testing.assert_array_equal(middle, np.take_along_axis(here, found.labels, axis=1))
    np.testing.assert_array_equal(found.features[..., -3:].argmax(axis=-1), found.labels)


def test_a_draw_is_as_large_as_asked_for():
    rng = np.random.default_rng(0)
    assert len(disputed(votes(), image(), rng, 50).points) == 50
    assert len(disputed(votes(), image(), rng, 10**6).points) == len(disputed(votes(), image()).points)


def test_every_channel_is_seen_and_a_constant_one_does_no_harm():
    one, two = disputed(votes(), image()), disputed(votes(), image(2))
    assert two.features.shape[2] == one.features.shape[2] + 36
    flat = disputed(votes(), np.full((1, *SHAPE), 7, np.float32))
    assert np.isfinite(flat.features).all()
    assert not flat.features[..., :36].any()
