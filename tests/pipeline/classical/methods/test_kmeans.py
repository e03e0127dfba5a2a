"""k-means: against scikit-learn on all voxels."""

import numpy as np
import pytest

from atlaseg.pipeline.classical.methods.kmeans import KMeansOptions, kmeans
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError


def _features(count=3000):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    return np.array([[0.0, 3], [2, 0], [5, 1]])[labels] + rng.normal(0, 0.5, (count, 2)), labels


def test_agrees_with_scikit_learn():
    from sklearn.cluster import KMeans

    features, labels = _features()
    found, centres = kmeans(features, 3)
    theirs = KMeans(3, n_init=10, random_state=5).fit(features)
    order = np.argsort(theirs.cluster_centers_[:, 0])
    np.testing.assert_allclose(centres, theirs.cluster_centers_[order], atol=1e-3)
    np.testing.assert_array_equal(found, np.argsort(order)[theirs.labels_])
    assert (found == labels).mean() > 0.99


def test_a_draw_of_the_rows_is_enough_and_the_seed_decides():
    features, _ = _features(20_000)
    few, centres = kmeans(features, 3, max_samples=1000, seed=7)
    assert (few == kmeans(features, 3)[0]).mean() > 0.995
    np.testing.assert_array_equal(centres, kmeans(features, 3, max_samples=1000, seed=7)[1])


def test_options_run_on_a_scan_inside_its_mask():
    rng = np.random.default_rng(0)
    voxels = np.where(np.arange(10)[:, None, None] < 5, 0.0, 3.0) + rng.normal(0, 1, (10, 10, 10))
    mask = np.zeros((10, 10, 10), bool)
    mask[:, 2:8, 1:] = True
    posteriors = KMeansOptions(2, sigmas_mm=(0, 1.5)).classes(Scan.of(voxels, mask=mask)).posteriors
    assert posteriors.dtype == np.float32
    assert (posteriors.sum(axis=0) == mask).all()
    assert (posteriors[1][mask] == (np.indices(mask.shape)[0] >= 5)[mask]).mean() > 0.95


def test_position_holds_clusters_together():
    scan = Scan.of(np.random.default_rng(0).normal(size=(10, 10, 10)))
    posteriors = KMeansOptions(2, position_weight=50.0).classes(scan).posteriors
    changes = sum(np.count_nonzero(np.diff(posteriors[0], axis=axis)) for axis in range(3))
    assert changes < 250  # one flat cut would be 100


def test_bad_input():
    with pytest.raises(OptionError, match="4 classes are more than the 3 different values"):
        kmeans(np.array([[0.0], [1], [2], [0], [1]]), 4)
    with pytest.raises(OptionError, match="at least 1"):
        kmeans(np.ones((3, 1)), 0)
    with pytest.raises(GeometryError, match="expected rows"):
        kmeans(np.ones(3), 1)
    with pytest.raises(DatasetError, match="NaN"):
        kmeans(np.array([[0.0], [np.nan]]), 1)
