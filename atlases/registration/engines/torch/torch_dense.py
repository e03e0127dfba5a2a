"""A dense warp by small smooth steps uphill, composed one after another."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from atlaseg.atlases.registration.engines.torch.torch_lattice import (
    Lattice,
    derivative,
    gaussian,
    sample,
    smooth,
)
from atlaseg.atlases.registration.engines.torch.torch_metrics import Likeness, likeness
from atlaseg.atlases.registration.engines.torch.torch_pyramid import Level, mapped

__all__ = ["dense_warp"]

#: Standard deviation of the Gaussian on each update and on the warp after it, voxels of the level, and the length
#: of the longest vector of an update. With updates smoothed that much, a step of one voxel cannot fold.
_UPDATE_SMOOTHING, _WARP_SMOOTHING, _STEP = 2.0, 1.0, 1.0
#: A level ends when its likeness has grown by less than this share over that many iterations.
_ENOUGH, _LOOK_BACK = 1e-3, 20


def dense_warp(
    levels: Iterable[Level],
    shape: tuple[int, int, int],
    matrix: npt.NDArray[np.float64],
    metric: str,
    radius: int | None,
) -> torch.Tensor:
    """Displacements of the voxels of a fixed image that make the moving image like it.

    At each iteration the likeness' derivative by displacements (its derivative by the moved image, times the
    gradient of that image) is smoothed, scaled to a longest vector of one voxel and composed with the warp so far,
    ``u <- g + u o (id + g)``, which is then smoothed a little. Composing, not adding, keeps the warp invertible.

    Source: the scheme of greedy (P. A. Yushkevich, https://greedy.readthedocs.io) and of S. Joshi et al.,
    Unbiased diffeomorphic atlas construction for computational anatomy, NeuroImage 23 (2004) S151-S160,
    doi:10.1016/j.neuroimage.2004.07.068.

    Args:
        levels: of the pyramid, coarse to fine.
        shape: of the fixed image.
        matrix: ``(4, 4)``, fixed voxel -> moving voxel, where the warp begins.
        metric: ``ssd``, ``ncc`` or ``lncc``.
        radius: of the window of ``lncc``, voxels of the level.

    Returns:
        ``(3, *shape)`` float32, fixed voxels: the mapping is ``x -> matrix (x + u(x))``.
    """
    warp: torch.Tensor | None = None
    before: Lattice | None = None
    for level in levels:
        lattice, device = level.lattice, level.fixed.device
        if warp is None or before is None:
            warp = torch.zeros(3, *lattice.shape, device=device)
        else:
            warp = _carried(warp, before, lattice, device)
        warp = _climb(level, warp, matrix, likeness(metric, level.fixed, radius))
        before = lattice
    if warp is None or before is None:
        raise ValueError("a dense warp needs at least one level")
    whole = Lattice.shrunk(shape, (1, 1, 1))
    return warp if before == whole else _carried(warp, before, whole, warp.device)


def _carried(warp: torch.Tensor, before: Lattice, lattice: Lattice, device: torch.device) -> torch.Tensor:
    """A warp of one lattice, in its steps, on another, in the steps of that."""
    places = before.within(lattice.points(device))
    return sample(warp, places) * (before.steps(device) / lattice.steps(device))


def _climb(
    level: Level, warp: torch.Tensor, matrix: npt.NDArray[np.float64], alike: Likeness
) -> torch.Tensor:
    """The warp of a level, in steps of its lattice."""
    lattice, device = level.lattice, level.fixed.device
    points, steps, indices = lattice.points(device), lattice.steps(device), lattice.indices(device)
    of_update, of_warp = (
        gaussian(lattice.shape, [sigma] * 3, device) for sigma in (_UPDATE_SMOOTHING, _WARP_SMOOTHING)
    )
    history: list[float] = []
    for _ in range(level.iterations):
        moved, weight = level.moved(mapped(matrix, points + warp * steps))
        value, pull = alike(moved, weight)
        update = smooth(pull * derivative(moved), of_update)
        longest = update.square().sum(dim=0).max().sqrt()
        update = update * (_STEP / longest.clamp_min(torch.finfo(update.dtype).tiny))
        warp = smooth(update + sample(warp, indices + update), of_warp)
        history.append(float(value))
        if _has_settled(history):
            break
    return warp


def _has_settled(history: list[float]) -> bool:
    """Whether the likeness no longer grows, measured by means of two stretches, since each step goes a bit too far."""
    if len(history) < 2 * _LOOK_BACK:
        return False
    earlier = sum(history[-2 * _LOOK_BACK : -_LOOK_BACK]) / _LOOK_BACK
    later = sum(history[-_LOOK_BACK:]) / _LOOK_BACK
    return later - earlier < _ENOUGH * abs(earlier)
