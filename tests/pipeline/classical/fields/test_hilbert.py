"""The curve: every voxel once, face neighbours only, and near on the curve is near in space."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.classical.fields.hilbert import _block_path, hilbert_path
from atlaseg.pipeline.errors import GeometryError


def _check(shape):
    path = hilbert_path(shape)
    assert path[0] == 0
    assert path.size == np.prod(shape)
    assert (np.bincount(path, minlength=path.size) == 1).all()
    voxels = np.stack(np.unravel_index(path, shape), axis=1)
    assert (np.abs(np.diff(voxels, axis=0)).sum(axis=1) == 1).all()
    return voxels


def test_every_box_up_to_nine_voxels_wide():
    for shape in itertools.product(range(1, 10), repeat=3):
        _check(shape)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 3))
@example((1, 37, 39))
@example((33, 1, 1))
@example((2, 39, 31))
@example((3, 3, 40))
def test_any_box(shape):
    _check(shape)


@pytest.mark.parametrize("shape", [(101, 97, 89), (128, 112, 80), (1, 255, 253), (240, 6, 7), (35, 51, 35)])
def test_large_boxes(shape):
    _check(shape)


def test_cubes_of_powers_of_two_are_octants_of_octants():
    voxels = _check((32, 32, 32))
    for level in range(1, 6):
        octants = voxels.reshape(-1, 8**level, 3) >> level
        assert (octants == octants[:, :1]).all()


@pytest.mark.parametrize("shape", [(64, 64, 64), (61, 63, 59), (1, 127, 126), (64, 64, 9)])
def test_near_on_the_curve_is_near_in_space(shape):
    """Thousand steps stay within about ten voxels; plane by plane they would reach across the box."""
    voxels = _check(shape).astype(float)
    flat = min(shape) == 1
    steps = 100 if flat else 1000
    apart = np.linalg.norm(voxels[steps:] - voxels[:-steps], axis=1).mean()
    assert apart < 1.5 * steps ** (1 / 2 if flat else 1 / 3)


@pytest.mark.slow
def test_blocks_have_a_path_wherever_they_are_entered():
    """The proof in the docstring, looked at: for every size of block, entry of the right colour, and way out."""
    steps = [tuple(int(v) for v in s * np.eye(3, dtype=int)[a]) for a in range(3) for s in (1, -1)]
    for size in [*itertools.product((2, 3), repeat=3), *itertools.product((4, 5, 6, 7), (4, 5, 6, 7), (1,))]:
        odd = np.prod(size) % 2
        for entry in itertools.product(*map(range, size)):
            if odd and sum(entry) % 2:
                continue
            for step in steps:
                if 1 in size and step[2]:
                    continue
                path = _block_path(size, entry, step)
                assert len(set(path)) == len(path) == np.prod(size)


def test_bad_box():
    for shape in [(3, 3), (0, 2, 2), (2, 2, 2, 2)]:
        with pytest.raises(GeometryError, match="three positive sizes"):
            hilbert_path(shape)
