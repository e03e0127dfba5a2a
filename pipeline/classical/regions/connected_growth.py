"""One region, grown from its seeds by one of four measures of homogeneity."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["Homogeneity", "checked_growth", "connected_to", "grown_from"]

#: When a voxel belongs to the region of a seed: see :func:`grown_from`.
Homogeneity = Literal["range", "neighbourhood", "statistics", "difference"]

_Values = npt.NDArray[np.floating[Any]]
_Bool = npt.NDArray[np.bool_]


def grown_from(
    voxels: _Values,
    seeds: _Bool,
    *,
    homogeneity: Homogeneity = "statistics",
    tolerance: float = 0.1,
    multiplier: float = 2.5,
    iterations: int = 4,
    radius: int = 1,
    mask: _Bool | None = None,
) -> _Bool:
    """One region: the voxels that are alike enough, and connected by voxel faces to a seed.

    - ``range``: intensities between the lowest seed less the tolerance and the highest plus it, in every channel: what
      SimpleITK's ``ConnectedThreshold`` finds with these limits.
    - ``neighbourhood``: the same for all voxels within the radius (a cube), which does not leak through thin bridges:
      ``NeighborhoodConnected``.
    - ``statistics``: intensities within ``multiplier`` standard deviations of the mean, which are at first those of
      the seeds' neighbourhoods, and of the region itself in each iteration: ``ConfidenceConnected``.
    - ``difference``: each step from voxel to voxel changes intensity by no more than the tolerance, which follows a
      bias field and leaks where an edge is soft.

    Args:
        voxels: ``(C, x, y, z)`` or ``(x, y, z)`` intensities, finite.
        seeds: ``(x, y, z)`` bool.
        homogeneity: one of the above.
        tolerance: in units of intensity.
        multiplier: in standard deviations.
        iterations: how often statistics are taken from the region.
        radius: of the neighbourhood, in voxels.
        mask: ``(x, y, z)``, where the region may grow; by default everywhere.

    Raises:
        GeometryError: voxels, seeds and mask do not lie on one 3-D grid.
        OptionError: there is no seed, one is outside the mask, or an option has an impossible value.

    >>> row = np.array([0.0, 0.1, 0.2, 0.3, 0.9, 0.2]).reshape(6, 1, 1)
    >>> seed = np.arange(6).reshape(6, 1, 1) == 1
    >>> grown_from(row, seed, homogeneity="range", tolerance=0.15).ravel().astype(int).tolist()
    [1, 1, 1, 0, 0, 0]
    >>> grown_from(row, seed, homogeneity="difference", tolerance=0.15).ravel().astype(int).tolist()
    [1, 1, 1, 1, 0, 0]
    """
    channels = voxels if voxels.ndim == 4 else voxels[None]
    inside = checked_growth(channels, seeds, mask)
    _check_options(homogeneity, tolerance, multiplier, iterations, radius)
    at_seeds = channels[:, seeds]
    low, high = at_seeds.min(axis=1), at_seeds.max(axis=1)
    if homogeneity == "difference":
        return _stepwise(channels, seeds, inside, tolerance)
    if homogeneity == "statistics":
        return _confident(channels, seeds, inside, multiplier, iterations, radius)
    allowed = inside & _between(channels, low - tolerance, high + tolerance)
    if homogeneity == "neighbourhood" and radius:
        from scipy.ndimage import minimum_filter

        allowed = minimum_filter(allowed, 2 * radius + 1, mode="nearest") | seeds
    return connected_to(allowed, seeds)


def connected_to(allowed: _Bool, seeds: _Bool) -> _Bool:
    """The parts of a mask, connected by voxel faces, that hold a seed; a seed outside it counts for nothing."""
    from scipy.ndimage import label

    parts, number = label(allowed)
    chosen = np.zeros(number + 1, dtype=bool)
    chosen[parts[seeds]] = True
    chosen[0] = False
    return chosen[parts]


def _between(channels: _Values, low: _Values, high: _Values) -> _Bool:
    within = np.ones(channels.shape[1:], dtype=bool)
    for channel, lowest, highest in zip(channels, low, high, strict=True):
        within &= (channel >= lowest) & (channel <= highest)
    return within


def _confident(
    channels: _Values, seeds: _Bool, inside: _Bool, multiplier: float, iterations: int, radius: int
) -> _Bool:
    at_seeds = channels[:, seeds].astype(np.float64)
    lowest, highest = at_seeds.min(axis=1), at_seeds.max(axis=1)

    def region(mean: _Values, variance: _Values) -> _Bool:
        reach = multiplier * np.sqrt(np.maximum(variance, 0))
        low, high = np.minimum(mean - reach, lowest), np.maximum(mean + reach, highest)
        return connected_to(inside & _between(channels, low, high), seeds)

    grown = region(*_around(channels, seeds, inside, radius))
    for _ in range(iterations):
        values = channels[:, grown].astype(np.float64)
        further = region(values.mean(axis=1), values.var(axis=1, ddof=min(1, values.shape[1] - 1)))
        if np.array_equal(further, grown):
            break
        grown = further
    return grown


def _around(channels: _Values, seeds: _Bool, inside: _Bool, radius: int) -> tuple[_Values, _Values]:
    """Mean and sample variance of the cubes around all seeds together, in every channel."""
    reach = np.arange(-radius, radius + 1)
    places = [
        np.clip(at[:, None] + reach, 0, n - 1) for at, n in zip(np.nonzero(seeds), seeds.shape, strict=True)
    ]
    index = places[0][:, :, None, None], places[1][:, None, :, None], places[2][:, None, None, :]
    weights = inside[index].astype(np.float64).reshape(len(places[0]), -1)
    values = channels[(slice(None), *index)].astype(np.float64).reshape(len(channels), *weights.shape)
    count = weights.sum()
    mean = (values * weights).sum(axis=(1, 2)) / count
    scatter = ((values - mean[:, None, None]) ** 2 * weights).sum(axis=(1, 2))
    return mean, scatter / max(count - 1, 1)


def _stepwise(channels: _Values, seeds: _Bool, inside: _Bool, tolerance: float) -> _Bool:
    """Breadth-first from the seeds, one vectorised step for all voxels at the front."""
    padded = np.pad(inside, 1).ravel()
    values = np.pad(channels, ((0, 0), (1, 1), (1, 1), (1, 1))).reshape(len(channels), -1)
    reached = np.pad(seeds, 1).ravel()
    shape = tuple(n + 2 for n in seeds.shape)
    steps = [sign * stride for stride in (shape[1] * shape[2], shape[2], 1) for sign in (1, -1)]
    front = np.flatnonzero(reached)
    while len(front):
        new = []
        for step in steps:
            open_ = padded[front + step] & ~reached[front + step]
            here = front[open_]
            alike = (np.abs(values[:, here + step] - values[:, here]) <= tolerance).all(axis=0)
            there = here[alike] + step
            reached[there] = True
            new.append(there)
        front = np.concatenate(new)
    return reached.reshape(shape)[1:-1, 1:-1, 1:-1].copy()


def checked_growth(channels: _Values, seeds: npt.NDArray[Any], mask: _Bool | None) -> _Bool:
    """Where regions may grow ``(x, y, z)``, once image ``(C, x, y, z)``, seeds and mask are found to fit.

    Raises:
        GeometryError: they do not lie on one 3-D grid.
        OptionError: there is no seed, one is negative, or outside the mask.
    """
    inside = np.ones(channels.shape[1:], dtype=bool) if mask is None else mask.astype(bool)
    if channels.ndim != 4 or seeds.shape != channels.shape[1:] or inside.shape != seeds.shape:
        raise GeometryError(
            f"an image of shape {channels.shape[1:]}, seeds of shape {seeds.shape} and a mask of shape {inside.shape} "
            "do not lie on one 3-D grid"
        )
    if not seeds.any() or seeds.min() < 0:
        raise OptionError("the seeds need one voxel of 1 or more at least, and none below 0")
    if (outside := np.argwhere((seeds > 0) & ~inside)).size:
        raise OptionError(
            f"the seed in voxel {tuple(outside[0].tolist())} lies outside the mask: move it inside"
        )
    return inside


def _check_options(
    homogeneity: str, tolerance: float, multiplier: float, iterations: int, radius: int
) -> None:
    if homogeneity not in get_args(Homogeneity):
        raise OptionError(f"no homogeneity {homogeneity!r}; choose one of {', '.join(get_args(Homogeneity))}")
    numbers = {"tolerance": tolerance, "multiplier": multiplier, "iterations": iterations, "radius": radius}
    for name, value in numbers.items():
        if not value >= 0:
            raise OptionError(f"{name} {value} is not possible: give 0 or more")
