"""Patches around voxels: their offsets, sums over them, and the best match of each in a neighbourhood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import OptionError

__all__ = ["Block", "Radius", "as_radius", "best_offsets", "box_sums", "dilated", "offsets_within"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Radius = tuple[int, int, int]

#: Voxels of a slab of the search: its few working arrays stay in a processor's cache.
_SLAB_VOXELS = 60_000
#: Least variance of a patch of an image of unit variance: patches flatter than this have no pattern to compare.
LEAST_VARIANCE = 1e-6


def as_radius(name: str, radius: int | tuple[int, int, int]) -> Radius:
    """Radius in voxels along each axis.

    Raises:
        OptionError: it is not a whole number of at least 0, or three of them.

    >>> as_radius("patch_radius", 2)
    (2, 2, 2)
    """
    sides = tuple(radius) if isinstance(radius, tuple | list) else (radius,) * 3
    if len(sides) != 3 or not all(isinstance(r, int) and 0 <= r <= 15 for r in sides):
        raise OptionError(f"{name}: expected a whole number from 0 to 15 (voxels) or three, found {radius}")
    x, y, z = sides
    return x, y, z


def offsets_within(radius: Radius) -> npt.NDArray[np.int64]:
    """``(P, 3)`` offsets of a box of ``2 radius + 1`` voxels a side, the nearest first.

    >>> offsets_within((0, 0, 1)).tolist()
    [[0, 0, 0], [0, 0, -1], [0, 0, 1]]
    """
    axes = np.meshgrid(*(np.arange(-r, r + 1) for r in radius), indexing="ij")
    offsets = np.stack(axes, axis=-1).reshape(-1, 3)
    return offsets[np.argsort((offsets**2).sum(axis=1), kind="stable")]


def box_sums(volume: Floats, radius: Radius) -> Floats:
    """Sums over boxes of ``2 radius + 1`` voxels a side that lie wholly inside ``(x, y, z)``.

    Whole shifted arrays are added, first two, then four neighbours at a time: several times faster than a running
    sum along lines, and without its drift in single precision.

    >>> box_sums(np.ones((3, 4, 1), np.float32), (1, 1, 0))[..., 0].tolist()
    [[9.0, 9.0]]
    """
    for axis in (1, 2, 0):
        volume = _window_sums(volume, 2 * radius[axis] + 1, axis)
    return volume


def _window_sums(volume: Floats, width: int, axis: int) -> Floats:
    """Sums of ``width`` (odd) neighbours along an axis, put together from sums of powers of two of them."""
    length = volume.shape[axis] - width + 1

    def part(array: Floats, start: int, count: int) -> Floats:
        return array[(slice(None),) * axis + (slice(start, start + count),)]

    total = part(volume, 0, length)
    doubled, span, covered = volume, 1, 1
    while covered < width:
        count = doubled.shape[axis] - span
        doubled = part(doubled, 0, count) + part(doubled, span, count)
        span *= 2
        if width & span:
            total = total + part(doubled, covered, length)
            covered += span
    return total


def dilated(mask: npt.NDArray[np.bool_], radius: Radius) -> npt.NDArray[np.bool_]:
    """True within a box of ``radius`` around any true voxel of ``(x, y, z)``."""
    grown = mask
    for axis, reach in enumerate(radius):
        seed, grown = grown, grown.copy()
        for shift in range(1, min(reach, mask.shape[axis] - 1) + 1):
            low = (slice(None),) * axis + (slice(None, -shift),)
            high = (slice(None),) * axis + (slice(shift, None),)
            grown[low] |= seed[high]
            grown[high] |= seed[low]
    return grown


@dataclass(frozen=True, eq=False)
class Block:
    """A box of the scan and what the atlases show there, edges repeated where a margin leaves the scan.

    Args:
        images: ``(N, C, x, y, z)`` float32, with a margin on every side.
        target: ``(C, x, y, z)``, likewise.
        usable: ``(N, x, y, z)`` bool, likewise: inside the scan's grid, and seen by the atlas.
        margin: voxels along each axis.
    """

    images: Floats
    target: Floats
    usable: npt.NDArray[np.bool_]
    margin: Radius

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid with its margin."""
        x, y, z = self.target.shape[1:]
        return x, y, z

    def steps(self, offsets: npt.NDArray[np.int64]) -> Indices:
        """Distance in the flat grid of ``(P, 3)`` offsets."""
        _, y, z = self.shape
        return offsets @ np.array((y * z, z, 1), dtype=np.intp)


def best_offsets(
    block: Block,
    atlas: int,
    centres: Indices,
    patch: Radius,
    search: npt.NDArray[np.int64],
    *,
    correlation: bool,
) -> npt.NDArray[np.int16]:
    """Offset from each centre to the patch of the atlas that is most similar to the patch of the target.

    The likeness of all patches at one offset is a sum over boxes of one image, so that the time does not depend on
    the size of the patch; every offset is tried.

    Args:
        block: the images, of about unit variance.
        atlas: which of them.
        centres: ``(n,)`` flat indices into the block, ascending, outside its margin.
        patch: radius.
        search: ``(S, 3)`` offsets, the preferred of equals first; margins hold patch and search together.
        correlation: compare by correlation; else by squared difference.

    Returns:
        ``(n,)`` rows of ``search``; 0 where no offset leads to a usable voxel.
    """
    best = np.zeros(len(centres), dtype=np.int16)
    if len(search) == 1:
        return best
    plane = block.shape[1] * block.shape[2]
    thickness = max(1, _SLAB_VOXELS // plane)
    first, last = block.margin[0], block.shape[0] - block.margin[0]
    for start in range(first, last, thickness):
        low, high = np.searchsorted(centres, (start * plane, (start + thickness) * plane))
        if low < high:
            slab = _Slab(block, atlas, centres[low:high], patch, search)
            best[low:high] = slab.search(correlation)
    return best


class _Slab:
    """The bounding box of some centres in a block, compared with one atlas."""

    def __init__(
        self, block: Block, atlas: int, centres: Indices, patch: Radius, offsets: npt.NDArray[np.int64]
    ) -> None:
        places = np.stack(np.unravel_index(centres, block.shape))
        self._low = places.min(axis=1)
        self._high = places.max(axis=1) + 1
        self._centres = np.ravel_multi_index(
            tuple(places - self._low[:, None]), tuple(self._high - self._low)
        )
        self._patch = patch
        self._offsets = offsets
        self._images = block.images[atlas]
        self._usable = block.usable[atlas]
        self._targets = [np.ascontiguousarray(self._cut(t, 0, patch)) for t in block.target]

    def _cut(self, volume: npt.NDArray[Any], shift: npt.ArrayLike, grow: npt.ArrayLike) -> npt.NDArray[Any]:
        """The box, moved and grown."""
        low = self._low + np.asarray(shift) - np.asarray(grow)
        high = self._high + np.asarray(shift) + np.asarray(grow)
        return volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]]

    def search(self, correlation: bool) -> npt.NDArray[np.int16]:
        """Row of the best offset for each centre."""
        best = np.zeros(len(self._centres), dtype=np.int16)
        least = np.full(len(self._centres), np.inf, dtype=np.float32)
        reach = np.abs(self._offsets).max(axis=0)
        everywhere = bool(self._cut(self._usable, 0, reach).all())
        moments = []
        if correlation:
            moments = [self._moments(image, reach) for image in self._images]
            self._target_moments = [_moments(target, self._patch) for target in self._targets]
        for row, shift in enumerate(self._offsets):
            cost = self._against_correlation(shift, reach, moments) if correlation else self._squares(shift)
            found = cost.reshape(-1).take(self._centres)
            better = found < least
            if not everywhere:
                better &= self._cut(self._usable, shift, 0).reshape(-1).take(self._centres)
            np.copyto(least, found, where=better)
            best[better] = row
        return best

    def _squares(self, shift: npt.NDArray[np.int64]) -> Floats:
        """Sum of squared differences over patches and channels."""
        squares = []
        for image, target in zip(self._images, self._targets, strict=True):
            difference: Floats = self._cut(image, shift, self._patch) - target
            difference *= difference
            squares.append(difference)
        return box_sums(sum(squares[1:], start=squares[0]), self._patch)

    def _moments(self, image: Floats, reach: npt.ArrayLike) -> _Moments:
        """Of each patch wherever the search may lead."""
        return _moments(self._cut(image, 0, np.asarray(reach) + np.array(self._patch)), self._patch)

    def _against_correlation(
        self, shift: npt.NDArray[np.int64], reach: npt.NDArray[np.int64], moments: list[_Moments]
    ) -> Floats:
        """Less for patches that correlate better; summed over channels."""
        here = tuple(slice(a, a + n) for a, n in zip(shift + reach, self._high - self._low, strict=True))
        count = np.float32(np.prod([2 * r + 1 for r in self._patch]))
        costs = []
        for channel, (mean, scale) in enumerate(moments):
            moved = self._cut(self._images[channel], shift, self._patch)
            products = box_sums(moved * self._targets[channel], self._patch)
            target_mean, target_scale = self._target_moments[channel]
            costs.append((mean[here] * target_mean - products / count) * scale[here] * target_scale)
        return sum(costs[1:], start=costs[0])


#: Mean of patches, and one over their standard deviation.
_Moments = tuple[Floats, Floats]


def _moments(volume: Floats, radius: Radius) -> _Moments:
    count = np.float32(np.prod([2 * r + 1 for r in radius]))
    mean = box_sums(volume, radius) / count
    variance = box_sums(volume * volume, radius) / count - mean * mean
    return mean, 1 / np.sqrt(np.maximum(variance, LEAST_VARIANCE))
