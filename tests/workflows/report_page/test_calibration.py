from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from atlaseg.workflows.report_page.calibration import BINS, MARGIN_MM, reliability


def test_bins_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet((0.6, 0.5, 0.4), 4000).T.reshape(3, 20, 20, 10)
    truth = rng.integers(0, 3, (20, 20, 10))
    found = reliability(probabilities, truth, (1, 1, 1))
    correct = probabilities.argmax(0) == truth
    accuracy, confidence = calibration_curve(correct.ravel(), probabilities.max(0).ravel(), n_bins=BINS)
    full = found.voxels > 0
    np.testing.assert_allclose(found.correct[full] / found.voxels[full], accuracy)
    np.testing.assert_allclose(found.confidence[full] / found.voxels[full], confidence)
    weights = found.voxels[full] / found.voxels.sum()
    assert found.error == pytest.approx((np.abs(accuracy - confidence) * weights).sum())


def test_calibrated_probabilities_have_no_error_and_sums_add_up():
    rng = np.random.default_rng(1)
    sure = rng.uniform(0.5, 1, (40, 40, 40))
    truth = np.where(rng.uniform(size=sure.shape) < sure, 1, 0)
    parts = [
        reliability(np.stack([1 - p, p]), t, (1, 1, 1))
        for p, t in zip((sure[:20], sure[20:]), (truth[:20], truth[20:]), strict=True)
    ]
    both = parts[0] + parts[1]
    assert both.voxels.sum() == sure.size
    assert both.error < 0.01
    overconfident = reliability(np.stack([0 * sure, 0 * sure + 1]), truth, (1, 1, 1))
    assert overconfident.error == pytest.approx(1 - truth.mean())


def test_far_background_does_not_count():
    truth = np.zeros((60, 60, 60), int)
    truth[30, 30, 30] = 1
    sure = np.stack([np.ones(truth.shape), np.zeros(truth.shape)])
    found = reliability(sure, truth, (1, 2.5, 4))
    assert found.voxels.sum() == 11 * 5 * 5  # MARGIN_MM to each side
    assert MARGIN_MM == 5
    assert found.voxels[-1] == found.voxels.sum()
    # a case without structures has no box: all of it counts
    assert reliability(sure, truth * 0, (1, 1, 1)).voxels.sum() == truth.size
