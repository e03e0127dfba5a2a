"""Sampling against scipy at the same places."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from atlaseg.pipeline.errors import GeometryError
from atlaseg.pipeline.transforms.sampling import (
    reflected_crop,
    reflected_indices,
    sample_linear,
    sample_nearest,
)

SHAPE = (7, 9, 5)


def volume(dtype=torch.float32, channels=2, shape=SHAPE):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(channels, *shape, generator=generator) * 200).to(dtype)


def places(low, high, count=(6, 4, 3)):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, *count, generator=generator) * (high - low) + low


@pytest.mark.parametrize(("low", "high"), [(0, 4), (-3, 8), (-60, 60)], ids=["inside", "beside", "far"])
def test_linear_is_scipy_order_1(low, high):
    image, where = volume(), places(low, high)
    expected = [map_coordinates(c.numpy(), where.numpy(), order=1, mode="mirror") for c in image]
    np.testing.assert_allclose(sample_linear(image, where), np.stack(expected), atol=3e-3)


@pytest.mark.parametrize(("low", "high"), [(0, 4), (-3, 8), (-60, 60)], ids=["inside", "beside", "far"])
def test_nearest_is_scipy_order_0(low, high):
    label, where = volume(torch.int16, 1), places(low, high)
    expected = map_coordinates(label[0].numpy(), where.numpy(), order=0, mode="mirror")
    result = sample_nearest(label, where)
    assert result.dtype == torch.int16
    np.testing.assert_array_equal(result[0], expected)


def test_memory_order_does_not_matter():
    image, where = volume(), places(-2, 8)
    fortran = torch.from_numpy(np.asfortranarray(image.numpy()))
    part = torch.nn.functional.pad(image, (2, 3, 1, 1, 4, 0))[:, 4:, 1:-1, 2:-3]
    assert not fortran.is_contiguous()
    assert not part.is_contiguous()
    for other in (fortran, part):
        assert torch.equal(sample_linear(other, where), sample_linear(image, where))
        assert torch.equal(sample_nearest(other, where), sample_nearest(image, where))


def test_half_precision_storage_is_read_as_float32():
    image, where = volume(torch.float16), places(-2, 8)
    assert sample_linear(image, where).dtype == torch.float32
    assert torch.equal(sample_linear(image, where), sample_linear(image.float(), where))


def test_voxel_centres_and_the_last_voxel_are_exact():
    image = volume()
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij"))
    assert torch.equal(sample_linear(image, grid), image)
    assert torch.equal(sample_nearest(image, grid), image)


@pytest.mark.parametrize("shape", [(1, 9, 5), (7, 1, 5), (1, 1, 1), (2, 2, 2)])
def test_axes_of_one_voxel(shape):
    image, where = volume(shape=shape), places(-3, 8)
    spread = image.expand(2, *(max(n, 2) for n in shape))  # two equal voxels in place of the one
    assert torch.allclose(sample_linear(image, where), sample_linear(spread.contiguous(), where))


def test_large_label_values_are_kept():
    label = torch.full((1, 4, 4, 4), 2**24 + 1, dtype=torch.int32)
    assert sample_nearest(label, places(0, 3)).unique().tolist() == [2**24 + 1]


@given(
    start=st.tuples(*[st.integers(-25, 25)] * 3),
    size=st.tuples(*[st.integers(1, 20)] * 3),
    shape=st.tuples(*[st.integers(1, 8)] * 3),
)
@settings(max_examples=30, deadline=None)
def test_crop_is_numpys_reflection(start, size, shape):
    array = np.arange(np.prod(shape)).reshape(1, *shape)
    around = [(0, 0)] + [(30, 45)] * 3
    expected = np.pad(array, around, mode="reflect")
    box = tuple(slice(30 + a, 30 + a + n) for a, n in zip(start, size, strict=True))
    result = reflected_crop(torch.from_numpy(array), start, size)
    np.testing.assert_array_equal(result, expected[(slice(None), *box)])


def test_crop_is_a_copy():
    image = volume()
    reflected_crop(image, (0, 0, 0), SHAPE).zero_()
    assert image.abs().max() > 0


def test_indices_of_one_voxel():
    assert reflected_indices(-2, 4, 1).tolist() == [0, 0, 0, 0]


def test_shapes_that_are_no_volume():
    with pytest.raises(GeometryError, match="expected a volume"):
        sample_linear(torch.zeros(4, 4), places(0, 1))
    with pytest.raises(GeometryError, match="expected a volume"):
        sample_nearest(torch.zeros(1, 0, 4, 4), places(0, 1))
