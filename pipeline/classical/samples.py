"""Voxels of a volume as rows of a table, all or some of them, for methods that classify each voxel independently."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError

__all__ = ["blocks", "check_classes", "chosen_voxels", "rows", "voxels_inside"]

#: Rows that are worked on at a time where every voxel of a volume has its turn.
BLOCK_ROWS = 1 << 18
#: Rows that are looked at first where distinct values are counted; nearly always enough.
FIRST_LOOK = 10_000


def voxels_inside(voxels: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.intp]:
    """Flat indices of the voxels to work on.

    Args:
        voxels: ``(C, x, y, z)``.
        mask: ``(x, y, z)``, or everywhere.

    Raises:
        GeometryError: ``voxels`` is not ``(C, x, y, z)`` or ``mask`` not ``(x, y, z)``.
        DatasetError: the mask is empty, or voxels inside are not finite.
    """
    if voxels.ndim != 4:
        raise GeometryError(f"expected a volume (C, x, y, z), found an array of shape {voxels.shape}")
    if mask is not None and mask.shape != voxels.shape[1:]:
        raise GeometryError(
            f"the mask has shape {mask.shape}, the volume {voxels.shape[1:]}: give it on its grid"
        )
    flat = voxels.reshape(len(voxels), -1)
    inside = np.arange(flat.shape[1]) if mask is None else np.flatnonzero(mask)
    if not inside.size:
        raise DatasetError("there are no voxels to segment: the mask is empty")
    if not all(np.isfinite(flat[:, block]).all() for block in blocks(inside)):
        raise DatasetError("the volume holds NaN or infinite voxels: replace them, or leave it out")
    return inside


def chosen_voxels(inside: npt.NDArray[np.intp], most: int, seed: int) -> npt.NDArray[np.intp]:
    """All of ``inside``, or ``most`` of them drawn without replacement, in ascending order."""
    if len(inside) <= most:
        return inside
    return np.sort(np.random.default_rng(seed).choice(inside, most, replace=False, shuffle=False))


def rows(volume: npt.NDArray[Any], at: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Channels of some voxels, ``(C, x, y, z)`` -> ``(N, C)``."""
    return np.ascontiguousarray(volume.reshape(len(volume), -1)[:, at].T, dtype=np.float64)


def blocks(at: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    """``at`` in parts of bounded size."""
    for first in range(0, len(at), BLOCK_ROWS):
        yield at[first : first + BLOCK_ROWS]


def check_classes(samples: npt.NDArray[Any], classes: int, method: str) -> None:
    """Refuse more classes than there are different rows in ``samples``, ``(N, C)``.

    Raises:
        OptionError: fewer than 1 class, or more than different values.

    >>> check_classes(np.array([[1.0], [2.0], [1.0]]), 3, "kmeans")
    Traceback (most recent call last):
    atlaseg.pipeline.errors.OptionError: kmeans: 3 classes are more than the 2 different values of the voxels: ask for
    fewer
    """
    if classes < 1:
        raise OptionError(f"{method}: at least 1 class is needed, found {classes}")
    if len(np.unique(samples[:FIRST_LOOK], axis=0)) >= classes:
        return
    if (found := len(np.unique(samples, axis=0))) < classes:
        raise OptionError(
            f"{method}: {classes} classes are more than the {found} different values of the voxels: ask for fewer"
        )
