"""Contribution of each atlas of a population to the mean image and to the probability maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.registration.transforms.resampling import resample_memberships
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import DatasetError, OptionError

__all__ = ["VOTE", "Votes", "common_names", "robust_mean", "votes_of"]

Floats = npt.NDArray[np.float32]

#: Memberships are rounded to this, so that sums of them are exact and one can be taken away without a trace.
VOTE = 2.0**-16
#: Intensities further from the median than so many robust standard deviations are drawn in.
_SPREAD = 3.0
#: With fewer images than this no outlier can be detected.
_FEWEST = 4
#: Voxels of all images together that are averaged at once.
_AT_ONCE = 8_000_000


def robust_mean(images: Sequence[Path | Floats]) -> Floats:
    """Robust mean of images, at each voxel over those that cover it, with extremes pulled in.

    Values further from the median than three robust standard deviations (1.4826 times the median absolute deviation)
    count as if they were no further (Huber's proposal: Annals of Mathematical Statistics 35:73-101 (1964),
    doi:10.1214/aoms/1177703732), where at least four have seen the voxel.

    Args:
        images: arrays ``(x, y, z)`` or ``.npy`` files of them, NaN where nothing was seen; files are read in slabs.

    Returns:
        ``(x, y, z)`` float32, 0 where no image has seen anything.

    Raises:
        OptionError: there is no image.
    """
    if not images:
        raise OptionError("a mean needs at least one image")
    arrays = [np.load(image, mmap_mode="r") if isinstance(image, Path) else image for image in images]
    shape = arrays[0].shape
    mean = np.zeros(shape, np.float32)
    width = max(1, int(_AT_ONCE / max(1, len(arrays) * shape[1] * shape[2])))
    for begin in range(0, shape[0], width):
        values = np.stack([array[begin : begin + width] for array in arrays])
        mean[begin : begin + width] = _robust(values)
    return mean


def _robust(values: Floats) -> Floats:
    seen = np.isfinite(values)
    count = seen.sum(axis=0)
    if len(values) >= _FEWEST:
        middle = _median(values, count)
        spread = _SPREAD * 1.4826 * _median(np.abs(values - middle), count)
        # few opinions, no outlier; and where most agree to the last digit, their spread says nothing
        free = (count < _FEWEST) | (spread <= 0)
        limit = np.where(free, np.inf, spread)
        values = np.clip(values, middle - limit, middle + limit)
    total = np.where(seen, values, 0).sum(axis=0, dtype=np.float64)
    mean: Floats = (total / np.maximum(count, 1)).astype(np.float32)
    return mean


def _median(values: Floats, count: npt.NDArray[np.intp]) -> Floats:
    """Median over the first axis of the ``count`` values that are not NaN; 0 where there is none."""
    ordered = np.sort(values, axis=0)  # NaN comes last
    low, high = (np.maximum(n, 0)[None] for n in ((count - 1) // 2, count // 2))
    high = np.minimum(high, len(values) - 1)
    pair = [np.take_along_axis(ordered, index, axis=0)[0] for index in (low, high)]
    return np.where(count > 0, (pair[0] + pair[1]) / 2, np.float32(0))


def votes_of(atlas: Atlas, labels: LabelTable, grid: Any, transform: Transform) -> Floats:
    """Votes of one atlas for each voxel of a grid: linear memberships in multiples of :data:`VOTE`.

    Returns:
        ``(K, x, y, z)`` float32; all 0 where the atlas has seen nothing.

    Raises:
        AtlasegError: the label map is missing or broken.
    """
    found = resample_memberships(atlas.labels(labels), grid, transform, range(len(labels)))
    rounded: Floats = np.round(found / np.float32(VOTE)) * np.float32(VOTE)
    return rounded


class Votes:
    """Votes of several atlases, to which one can be added or taken away again to the last bit.

    Args:
        classes: ``K``, the background included.
        shape: of the grid.
    """

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        # in units of VOTE, so that adding and taking away are exact
        self._units = np.zeros((classes, *shape), np.uint32)

    def add(self, votes: Floats) -> None:
        """Count the votes of one more atlas."""
        self._units += _units(votes)

    def without(self, votes: Floats) -> Floats:
        """Probabilities without one atlas, as :meth:`probabilities`."""
        return _share(self._units - _units(votes))

    def probabilities(self) -> Floats:
        """``(K, x, y, z)`` float32, sums to one; background where no atlas has seen anything."""
        return _share(self._units)


def _units(votes: Floats) -> npt.NDArray[np.uint32]:
    return np.asarray(votes / np.float32(VOTE), np.uint32)


def _share(units: npt.NDArray[np.uint32]) -> Floats:
    total = units.sum(axis=0, dtype=np.uint64)
    shares: Floats = units / np.maximum(total, 1).astype(np.float32)
    shares[0][total == 0] = 1
    return shares.astype(np.float32, copy=False)


def common_names(atlases: AtlasSet, transforms: Mapping[str, Any] | Iterable[str]) -> tuple[str, ...]:
    """Names of the atlases that have a transform.

    Raises:
        DatasetError: a transform is of an atlas that the set does not have, or there is none.
    """
    given = set(transforms)
    if unknown := sorted(given - set(atlases.names)):
        raise DatasetError(
            f"{atlases.name} has no atlas {', '.join(unknown)}, but transforms of them are given"
        )
    if not given:
        raise DatasetError(f"{atlases.name}: no transform of any atlas to the template is given")
    return tuple(name for name in atlases.names if name in given)
