"""Distances between surfaces against SciPy's distance maps, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from atlaseg.pipeline.errors import GeometryError
from atlaseg.pipeline.evaluation.surface import surface_distances

SPACING = (0.7, 1.0, 3.0)


def test_distances_are_those_of_scipy():
    field = gaussian_filter(np.random.default_rng(0).normal(size=(20, 18, 14)), 2)
    masks = field > 0.02, np.roll(field, 2, axis=0) > 0.03
    # beyond the grid is outside
    edges = [mask & ~binary_erosion(mask, border_value=0) for mask in masks]
    found = surface_distances(*masks, SPACING)
    for directed, own, other in ((found.to_reference, *edges), (found.to_prediction, *edges[::-1])):
        expected = distance_transform_edt(~other, sampling=SPACING)[own]
        np.testing.assert_allclose(np.sort(directed.distances), np.sort(expected), rtol=1e-5)
        assert directed.area == own.sum()
        assert directed.total() == pytest.approx(expected.sum(), rel=1e-5)
        assert directed.percentile_95() == pytest.approx(np.percentile(expected, 95), rel=1e-5)
        assert directed.area_within(1.05) == (expected <= 1.05).sum()


def test_refuses_what_has_no_surface_or_does_not_fit():
    mask, empty = np.ones((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    with pytest.raises(GeometryError, match="empty mask"):
        surface_distances(mask, empty, SPACING)
    with pytest.raises(GeometryError, match="shape"):
        surface_distances(mask, mask[:2], SPACING)
    with pytest.raises(GeometryError, match="3 positive"):
        surface_distances(mask, mask, (1, 1))
