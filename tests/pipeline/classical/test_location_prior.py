"""The location prior: sums to one, follows the box, and is the label map itself where there is but one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atlaseg.pipeline.classical import Scan
from atlaseg.pipeline.classical.location_prior import LocationPrior
from atlaseg.pipeline.errors import DatasetError

RNG = np.random.default_rng(0)


def scan(shape: tuple[int, ...] = (20, 24, 16), affine: np.ndarray | None = None) -> Scan:
    return Scan.of(RNG.normal(size=shape), affine)


def block(shape: tuple[int, ...] = (20, 24, 16)) -> np.ndarray:
    labels = np.zeros(shape, dtype=np.int64)
    x, y, z = shape
    labels[x // 4 : x // 2, y // 4 : 3 * y // 4, z // 4 : z // 2] = 1
    return labels


def test_sums_to_one_and_finds_its_own_label_map() -> None:
    prior = LocationPrior.learn([scan()], [block()], 2).on(scan())
    np.testing.assert_allclose(prior.sum(axis=0), 1, atol=1e-5)
    assert (prior > 0).all()
    assert (prior.argmax(axis=0) == block()).mean() > 0.99


def test_other_voxels_and_orientation() -> None:
    """A scan twice as fine, stored the other way round: the block is where it was in space."""
    learnt = LocationPrior.learn([scan()], [block()], 2)
    fine = scan((40, 48, 32), np.diag((-0.5, -0.5, 0.5, 1)))
    found = learnt.on(fine).argmax(axis=0)
    expected = np.kron(block()[::-1, ::-1], np.ones((2, 2, 2), dtype=np.int64))
    assert 2 * (found * expected).sum() / (found.sum() + expected.sum()) > 0.95


def test_boxes_of_masks() -> None:
    """The same content in a larger field of view: masks bring it together."""
    mask = np.zeros((20, 24, 16), dtype=bool)
    mask[2:12, 3:20, 2:10] = True
    small = replace(scan(), mask=mask)
    learnt = LocationPrior.learn([small], [block() * mask], 2, masked=True)
    wide = np.zeros((40, 40, 40), dtype=bool)
    wide[12:22, 13:30, 22:30] = True
    prior = learnt.on(replace(scan((40, 40, 40)), mask=wide))
    np.testing.assert_array_equal(prior[0][~wide], 1)
    found = prior.argmax(axis=0)[12:22, 13:30, 22:30]
    assert (found == block()[2:12, 3:20, 2:10]).mean() > 0.97


def test_mean_of_scans() -> None:
    both = LocationPrior.learn([scan(), scan()], [block(), np.zeros_like(block())], 2).on(scan())
    inside = np.zeros(block().shape, dtype=bool)
    inside[7, 12, 6] = True  # deep in the block
    assert both[1][inside] == pytest.approx(0.5, abs=0.05)


def test_no_scan() -> None:
    with pytest.raises(DatasetError, match="no labelled scan"):
        LocationPrior.learn([], [], 2)
