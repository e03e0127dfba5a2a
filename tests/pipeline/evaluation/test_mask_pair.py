"""One structure in two label maps: counts, masks in their box, and work that is done once."""

from __future__ import annotations

import numpy as np
import pytest

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.evaluation import mask_pair
from atlaseg.pipeline.evaluation.confusion_matrix import confusion_of_indices
from atlaseg.pipeline.evaluation.mask_pair import mask_pairs
from atlaseg.pipeline.evaluation.metrics import METRICS


def pairs_of(found, truth, K=3, spacing=(1.0, 2.0, 5.0), **options):
    return list(mask_pairs(found, truth, confusion_of_indices(found, truth, K), spacing, **options))


def test_counts_and_masks_are_those_of_the_maps():
    found, truth = np.random.default_rng(0).choice(3, (2, 7, 6, 5), p=[0.8, 0.15, 0.05])
    for k, pair in enumerate(pairs_of(found, truth), start=1):
        assert pair.reference_voxels == (truth == k).sum() == pair.reference.sum()
        assert pair.prediction_voxels == (found == k).sum() == pair.prediction.sum()
        assert pair.both_voxels == ((found == k) & (truth == k)).sum()
        assert pair.both_voxels == (pair.prediction & pair.reference).sum()
        assert (pair.voxels, pair.voxel_ml) == (210, 0.01)
        assert pair.diagonal_mm == pytest.approx(np.sqrt(7**2 + 12**2 + 25**2))
        corner = tuple(part.start for part in pair.box)
        place = tuple(int(n[0]) for n in np.nonzero(pair.reference))
        assert truth[tuple(np.add(corner, place))] == k


def test_axes_of_one_voxel_are_left_out_of_masks():
    truth = np.zeros((8, 1, 9), int)
    truth[2:5, :, 3:7] = 1
    (pair,) = pairs_of(truth, truth, K=2)
    assert pair.reference.shape == (3, 4)
    assert pair.mask_spacing == (1.0, 5.0)
    assert pair.voxels == 72


def test_metrics_share_the_distances(monkeypatch):
    asked = []
    found = mask_pair.surface_distances
    monkeypatch.setattr(mask_pair, "surface_distances", lambda *a: asked.append(1) or found(*a))
    truth = np.zeros((6, 6, 6), int)
    truth[1:4, 1:4, 1:4] = 1
    (pair,) = pairs_of(np.roll(truth, 1, axis=0), truth, K=2)
    assert pair.distances.to_reference.area == 26  # all voxels of a cube of 3 but the inner one
    for metric in METRICS.rows():
        metric.compute(pair)
    assert asked == [1]


@pytest.mark.parametrize("tolerance", [-1.0, float("inf"), float("nan")])
def test_tolerance_is_checked(tolerance):
    with pytest.raises(OptionError, match="tolerance"):
        pairs_of(np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int), tolerance_mm=tolerance)
