"""Sampling, smoothing and lattices in torch, beside scipy's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import ndimage

from atlaseg.atlases.registration.engines.torch import torch_lattice
from atlaseg.atlases.registration.engines.torch.torch_lattice import (
    Lattice,
    box,
    derivative,
    gaussian,
    sample,
    smooth,
    transposed,
)

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(dtype)


@pytest.mark.parametrize(
    ("sigma", "shape"), [((2.0, 2.0, 2.0), (30, 28, 26)), ((0.7071, 1.5, 0.0), (20, 24, 9))]
)
def test_gaussian_is_that_of_scipy_inside(sigma: Sequence[float], shape: tuple[int, int, int]) -> None:
    volume = noise(*shape)
    found = smooth(volume, gaussian(shape, sigma, CPU, torch.float64)).numpy()
    reach = [int(np.ceil(3 * s)) for s in sigma]
    wanted = ndimage.gaussian_filter(volume.numpy(), sigma, radius=reach)
    inner = tuple(slice(r, n - r) for r, n in zip(reach, shape, strict=True))
    np.testing.assert_allclose(found[inner], wanted[inner], atol=1e-12)


def test_gaussian_at_the_ends_is_the_mean_of_what_is_there() -> None:
    """As a filter that takes zeros for what lies beyond, divided by the share that it has seen."""
    shape, sigma = (12, 9, 10), 1.5
    volume = noise(*shape).numpy()
    found = smooth(torch.from_numpy(volume), gaussian(shape, [sigma] * 3, CPU, torch.float64)).numpy()
    options = {"sigma": sigma, "radius": 5, "mode": "constant"}
    wanted = ndimage.gaussian_filter(volume, **options) / ndimage.gaussian_filter(np.ones(shape), **options)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_box_is_the_mean_of_the_window() -> None:
    shape = (11, 12, 13)
    volume = noise(*shape)
    found = smooth(volume, box(shape, 2, CPU, torch.float64)).numpy()
    wanted = ndimage.uniform_filter(volume.numpy(), 5, mode="constant")
    seen = ndimage.uniform_filter(np.ones(shape), 5, mode="constant")
    np.testing.assert_allclose(found, wanted / seen, atol=1e-12)


@pytest.mark.parametrize("shape", [(9, 8, 7), (5, 140, 6), (131, 4, 200)])
def test_adjoint_is_exact(shape: tuple[int, int, int]) -> None:
    for matrices in (gaussian(shape, (2.0, 1.0, 3.0), CPU, torch.float64), box(shape, 2, CPU, torch.float64)):
        a, b = noise(*shape, seed=1), noise(*shape, seed=2)
        forth = (smooth(a, matrices) * b).sum()
        back = (a * smooth(b, transposed(matrices))).sum()
        assert float(forth) == pytest.approx(float(back), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("length", [129, 192, 257])
def test_long_axes_are_smoothed_as_short_ones(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (length, 6, length)
    volumes = noise(2, *shape)
    matrices = gaussian(shape, (2.0, 1.0, 9.0), CPU, torch.float64)
    in_blocks = smooth(volumes, matrices), smooth(volumes, transposed(matrices))
    monkeypatch.setattr(torch_lattice, "_BLOCK", length)
    at_once = smooth(volumes, matrices), smooth(volumes, transposed(matrices))
    for found, wanted in zip(in_blocks, at_once, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_channels_are_smoothed_one_by_one() -> None:
    shape = (8, 9, 10)
    volumes, matrices = noise(3, *shape), gaussian(shape, (1.0, 2.0, 0.5), CPU, torch.float64)
    wanted = torch.stack([smooth(volume, matrices) for volume in volumes])
    torch.testing.assert_close(smooth(volumes, matrices), wanted)


def test_sampling_is_that_of_scipy_also_beyond_the_edge() -> None:
    volume = noise(2, 9, 11, 7)
    rng = np.random.default_rng(4)
    places = rng.uniform(-4, 14, (3, 5, 6, 7))
    # voxel centres, the outermost included, and far outside
    places[:, 0, 0, 0], places[:, 0, 0, 1], places[:, 0, 0, 2] = 0, (8, 10, 6), 1e4
    found = sample(volume, torch.from_numpy(places)).numpy()
    wanted = [ndimage.map_coordinates(channel, places, order=1, mode="nearest") for channel in volume.numpy()]
    np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_derivative_is_that_of_numpy() -> None:
    volume = noise(6, 7, 8)
    np.testing.assert_allclose(derivative(volume).numpy(), np.gradient(volume.numpy()), atol=1e-12)


@pytest.mark.parametrize("shape", [(35, 50, 37), (8, 9, 4), (181, 217, 22), (5, 2, 3)])
@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 1), (3, 5, 4), (8, 8, 8)])
def test_a_lattice_tiles_its_volume(shape: tuple[int, int, int], factors: tuple[int, int, int]) -> None:
    lattice = Lattice.shrunk(shape, factors)
    for n, count, step, offset, factor in zip(
        shape, lattice.shape, lattice.step, lattice.offset, factors, strict=True
    ):
        # blocks of one size, from the outer face of the first voxel to that of the last
        assert count * step == pytest.approx(n)
        assert offset - step / 2 == pytest.approx(-0.5)
        assert offset + (count - 0.5) * step == pytest.approx(n - 0.5)
        assert step <= factor
        assert count >= min(4, n)
    if factors == (1, 1, 1):
        assert lattice == Lattice(shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def test_places_in_a_lattice() -> None:
    lattice = Lattice.shrunk((20, 21, 22), (2, 3, 4))
    points = lattice.points(CPU)
    assert points.shape == (3, *lattice.shape)
    torch.testing.assert_close(lattice.within(points), lattice.indices(CPU), rtol=0, atol=1e-5)
    first, step = torch.tensor(lattice.offset), torch.tensor(lattice.step)
    torch.testing.assert_close(points[:, 0, 0, 0], first)
    torch.testing.assert_close(points[:, 2, 1, 3], first + step * torch.tensor([2.0, 1.0, 3.0]))


def test_means_of_blocks_lie_where_the_lattice_says() -> None:
    """A ramp is the same, sampled in the volume or on the lattice."""
    shape = (16, 18, 20)
    ramp = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij")[1]
    blocks = ramp.reshape(8, 2, 9, 2, 5, 4).mean(dim=(1, 3, 5))
    lattice = Lattice.shrunk(shape, (2, 2, 4))
    torch.testing.assert_close(sample(ramp[None], lattice.points(CPU))[0], blocks, rtol=0, atol=1e-5)
