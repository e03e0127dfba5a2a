"""The map between grids, against affines composed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from atlaseg.pipeline.errors import GeometryError
from atlaseg.pipeline.inference.grid_map import GridMap


def affine(linear, origin=(0, 0, 0)):
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = linear, origin
    return result


def test_recovers_a_permuted_flipped_scaled_shifted_grid():
    turn = Rotation.from_euler("xyz", (20, -30, 10), degrees=True).as_matrix()
    scan = affine(turn @ np.diag([0.7, 0.9, 5.0]), (10, -20, 30))
    # network axis 0 runs along scan axis 2 backwards, axis 1 along 0, axis 2 along 1
    to_network = np.array([[0, 0, -2.5, 20], [0.5, 0, 0, -3], [0, 0.25, 0, 1.5], [0, 0, 0, 1]])
    found = GridMap.between(scan, (30, 30, 30), scan @ np.linalg.inv(to_network))
    assert found.axes == (2, 0, 1)
    np.testing.assert_allclose(found.scale, (-2.5, 0.5, 0.25))
    np.testing.assert_allclose(found.offset, (20, -3, 1.5), atol=1e-9)


@pytest.mark.parametrize(
    "network",
    [
        affine(Rotation.from_euler("z", 3, degrees=True).as_matrix()),
        affine([[1, 0.02, 0], [0, 1, 0], [0, 0, 1]]),
        affine(np.ones((3, 3)) + 1e-3 * np.eye(3)),
        affine(np.zeros((3, 3))),
    ],
    ids=["turned", "sheared", "nearly singular", "singular"],
)
def test_other_grids_are_refused(network):
    with pytest.raises(GeometryError):
        GridMap.between(np.eye(4), (64, 64, 64), network)


def test_rounded_header_is_accepted():
    noise = np.random.default_rng(0).uniform(-5e-6, 5e-6, (3, 3))
    found = GridMap.between(affine(np.diag([0.8, 0.8, 3.0]) + noise), (256, 256, 60), np.eye(4))
    np.testing.assert_allclose(found.scale, (0.8, 0.8, 3.0), atol=1e-5)


def test_samples_at_the_edges_of_content():
    grid_map = GridMap((0, 1, 2), np.array([0.5, -1.0, 1.0]), np.array([-2.0, 9.0 + 1e-12, 0.0]))
    halves = grid_map.samples(0, 20, slice(0, 4))  # -2, -1.5, ... 7.5
    assert halves.start == 3  # -0.5 is within one voxel of the edge, -1 is not
    np.testing.assert_array_equal(halves.lower, [0, 0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(halves.weight, [0, 0, 0.5, 0, 0.5, 0, 0.5, 0, 0])
    flipped = grid_map.samples(1, 10, slice(2, 6))
    assert flipped.exact
    assert flipped.start == 4
    np.testing.assert_array_equal(flipped.lower, [5, 4, 3, 2])
    nothing = grid_map.samples(2, 10, slice(12, 20))
    assert len(nothing.lower) == 0
