"""k nearest neighbours: against scikit-learn, and what is learnt from labelled scans."""

import numpy as np
import pytest

from atlaseg.pipeline.classical.methods.knn import KnnOptions, nearest_neighbours
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import DatasetError, GeometryError, LabelError, OptionError


@pytest.mark.parametrize("neighbours", [1, 7])
def test_agrees_with_scikit_learn(neighbours):
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    examples = rng.normal(size=(400, 4)) + labels[:, None]
    features = rng.normal(size=(1000, 4)) + 1
    theirs = KNeighborsClassifier(neighbours).fit(examples, labels).predict_proba(features)
    ours = nearest_neighbours(features, examples, labels, classes=3, neighbours=neighbours)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    near = nearest_neighbours(features, examples, labels, classes=3, neighbours=neighbours, slack=0.5)
    assert np.abs(near - theirs).mean() < 0.1


def _subject(seed, shape=(20, 18, 16)):
    """A bright ball left of a dark one of another label and one right of it that is only its place apart."""
    rng = np.random.default_rng(seed)
    index = np.indices(shape) + rng.uniform(-1, 1, (3, 1, 1, 1))
    labels = np.zeros(shape, int)
    for k, centre in enumerate([(5, 5, 8), (5, 12, 8), (14, 5, 8)], start=1):
        labels[np.linalg.norm(index - np.array(centre).reshape(3, 1, 1, 1), axis=0) < 3.5] = k
    return np.array([0.0, 2, -2, 2])[labels] + rng.normal(0, 0.6, shape), labels


def _state(options, subjects, mask=None):
    return options.learn([Scan.of(v, mask=mask) for v, _ in subjects], [label for _, label in subjects], 4)


def test_learns_structures_by_look_and_place():
    options = KnnOptions()
    state = _state(options, [_subject(n) for n in range(4)])
    voxels, truth = _subject(9)
    found = options.probabilities(Scan.of(voxels), state)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    labels = found.argmax(axis=0)
    dice = [
        2 * np.sum((labels == k) & (truth == k)) / (np.sum(labels == k) + np.sum(truth == k))
        for k in (1, 2, 3)
    ]
    assert min(dice) > 0.75
    blind = KnnOptions(position_weight=0.0)
    unplaced = blind.probabilities(Scan.of(voxels), _state(blind, [_subject(n) for n in range(4)])).argmax(
        axis=0
    )
    assert np.sum(unplaced == truth) < np.sum(labels == truth)


def test_votes_are_weighed_by_frequency():
    """With nothing to go by, the answer is how often each label occurs, however the examples were drawn."""
    rng = np.random.default_rng(0)
    labels = (rng.random((24, 24, 24)) < 0.1).astype(int)
    options = KnnOptions(
        neighbours=200, examples_per_label=300, sigmas_mm=(0.0,), gradient=False, position_weight=0
    )
    state = options.learn([Scan.of(rng.normal(size=labels.shape))], [labels], 2)
    assert np.bincount(state["labels"]).tolist() == [300, 300]
    found = options.probabilities(Scan.of(rng.normal(size=labels.shape)), state)
    assert found[1].mean() == pytest.approx(labels.mean(), abs=0.02)


def test_outside_the_mask_is_background_and_the_seed_decides():
    mask = np.zeros((20, 18, 16), bool)
    mask[1:19, 1:17, 2:14] = True
    options = KnnOptions(examples_per_label=50)
    first, again = (_state(options, [_subject(n) for n in range(2)], mask) for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    found = options.probabilities(Scan.of(_subject(3)[0], mask=mask), first)
    assert (found[0][~mask] == 1).all()
    assert not found[1:, ~mask].any()


def test_state_is_plain_arrays(tmp_path):
    options = KnnOptions(examples_per_label=20)
    state = _state(options, [_subject(0)])
    np.savez(tmp_path / "state.npz", **state)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as read:
        other = dict(read)
    scan = Scan.of(_subject(1)[0])
    np.testing.assert_array_equal(options.probabilities(scan, state), options.probabilities(scan, other))


def test_bad_input():
    voxels, labels = _subject(0)
    scan = Scan.of(voxels)
    options = KnnOptions(examples_per_label=20)
    with pytest.raises(DatasetError, match="label 4 has no voxel"):
        options.learn([scan], [labels], 5)
    with pytest.raises(DatasetError, match="at least one labelled scan"):
        options.learn([], [], 4)
    with pytest.raises(LabelError, match="between 0 and 2, found 0 to 3"):
        options.learn([scan], [labels], 3)
    with pytest.raises(GeometryError, match="label map has shape"):
        options.learn([scan], [labels[1:]], 4)
    with pytest.raises(GeometryError, match="channels"):
        options.probabilities(Scan.of(np.stack([voxels, voxels])), options.learn([scan], [labels], 4))
    with pytest.raises(OptionError, match="at least 1"):
        KnnOptions(neighbours=0)
    with pytest.raises(OptionError, match="0 or more"):
        KnnOptions(sigmas_mm=(-1.0,))
    rows, one = np.zeros((3, 2)), np.zeros(3, int)
    with pytest.raises(GeometryError, match="as many features"):
        nearest_neighbours(rows, rows[:, :1], one, classes=1)
    with pytest.raises(GeometryError, match="as many labels"):
        nearest_neighbours(rows, rows, one[:2], classes=1)
    with pytest.raises(OptionError, match="at least 1 neighbour"):
        nearest_neighbours(rows, rows, one, classes=1, neighbours=0)
    with pytest.raises(OptionError, match="weights"):
        nearest_neighbours(rows, rows, one, classes=1, weights=np.zeros(1))
    with pytest.raises(DatasetError, match="NaN"):
        nearest_neighbours(rows * np.nan, rows, one, classes=1)
