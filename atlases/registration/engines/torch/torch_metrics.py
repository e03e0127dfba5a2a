"""Similarity of two volumes, and its derivative with respect to each voxel of one of them."""

from __future__ import annotations

from typing import Protocol

import torch

from atlaseg.atlases.registration.engines.torch.torch_lattice import box, smooth, transposed
from atlaseg.pipeline.errors import OptionError

__all__ = ["GlobalCorrelation", "Likeness", "LocalCorrelation", "SquaredDifference", "likeness"]

#: Variance that is taken for no contrast, for intensities in [0, 1]: below the noise of any scanner.
_NO_CONTRAST = 1e-5


class Likeness(Protocol):
    """Compares volumes with a fixed one; the larger, the more alike."""

    def __call__(self, moved: torch.Tensor, weight: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Likeness and its derivative.

        Args:
            moved: ``(x, y, z)``, the moving image on the grid of the fixed one.
            weight: ``(x, y, z)`` in [0, 1], how much each voxel counts; ``None``: all of them fully.

        Returns:
            The likeness, a scalar, and its derivative by each voxel of ``moved``, ``(x, y, z)``, times the
            number of voxels (all of them, including those of weight 0).
        """
        ...


def likeness(metric: str, fixed: torch.Tensor, radius: int | None) -> Likeness:
    """Measure by the name of a metric.

    Args:
        metric: ``ssd``, ``ncc`` or ``lncc``.
        fixed: ``(x, y, z)``, intensities in [0, 1].
        radius: of the window of ``lncc``, voxels.

    Raises:
        OptionError: there is no such measure.
    """
    if metric == "ssd":
        return SquaredDifference(fixed)
    if metric == "ncc":
        return GlobalCorrelation(fixed)
    if metric == "lncc":
        return LocalCorrelation(fixed, radius or 2)
    raise OptionError(f"the engine torch has no metric {metric!r}; choose one of ssd, ncc, lncc")


def _share(weight: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """Weights whose mean is one."""
    if weight is None:
        return torch.ones((), dtype=like.dtype, device=like.device)
    return weight / weight.mean().clamp_min(torch.finfo(like.dtype).tiny)


class SquaredDifference:
    """Negative mean squared difference."""

    def __init__(self, fixed: torch.Tensor) -> None:
        self.fixed = fixed

    def __call__(self, moved: torch.Tensor, weight: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """As :class:`Likeness` has it."""
        difference = self.fixed - moved
        pull = 2 * _share(weight, moved) * difference
        return -(0.5 * pull * difference).mean(), pull


class GlobalCorrelation:
    """Correlation coefficient over the whole image."""

    def __init__(self, fixed: torch.Tensor) -> None:
        self.fixed = fixed

    def __call__(self, moved: torch.Tensor, weight: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """As :class:`Likeness` has it."""
        share = _share(weight, moved)
        fixed, moved = (v - (share * v).mean() for v in (self.fixed, moved))
        own, other, both = ((share * product).mean() for product in (fixed**2, moved**2, fixed * moved))
        other = other.clamp_min(_NO_CONTRAST * 1e-3)
        scale = (own.clamp_min(_NO_CONTRAST * 1e-3) * other).sqrt()
        return both / scale, share * (fixed - both / other * moved) / scale


class LocalCorrelation:
    """Mean squared correlation coefficient of the windows around each voxel.

    It is squared, so that bright tissue of one image may be dark in the other.

    Source: B. B. Avants et al., Symmetric diffeomorphic image registration with cross-correlation, Medical Image
    Analysis 12 (2008) 26-41, doi:10.1016/j.media.2007.06.004; the derivative is that of the sum over all windows
    that hold a voxel, by sums over windows (P. A. Yushkevich's greedy does the same).

    Args:
        fixed: ``(x, y, z)``, intensities in [0, 1].
        radius: of the cubic window, voxels.
    """

    def __init__(self, fixed: torch.Tensor, radius: int) -> None:
        self.fixed = fixed
        self._mean = box(fixed.shape, radius, fixed.device, fixed.dtype)
        self._spread = transposed(self._mean)
        means = smooth(torch.stack([fixed, fixed * fixed]), self._mean)
        self._moments = means[0], (means[1] - means[0] ** 2).clamp_min(0)

    def __call__(self, moved: torch.Tensor, weight: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """As :class:`Likeness` has it."""
        if weight is None:
            other, squares, products = smooth(
                torch.stack([moved, moved * moved, self.fixed * moved]), self._mean
            )
            own, variance = self._moments
            counted = torch.ones((), dtype=moved.dtype, device=moved.device)
        else:
            own, other, variance, squares, products, counted = self._weighted(moved, weight)
        covariance = products - own * other
        spread = (squares - other * other).clamp_min(0) + _NO_CONTRAST
        slope = covariance / ((variance + _NO_CONTRAST) * spread)
        share = _share(weight, moved)
        value = (share * covariance * slope).mean()
        pull = 2 * share * slope / counted
        stretch = pull * covariance / spread
        back = smooth(torch.stack([pull, pull * own, stretch, stretch * other]), self._spread)
        derivative = self.fixed * back[0] - back[1] - moved * back[2] + back[3]
        return value, derivative if weight is None else weight * derivative

    def _weighted(self, moved: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Moments of windows in which voxels have weights."""
        fixed = self.fixed
        parts = torch.stack(
            [torch.ones_like(moved), fixed, moved, fixed * fixed, moved * moved, fixed * moved]
        )
        counted, *sums = smooth(weight * parts, self._mean)
        # where nothing counts, all sums are zero, and any divisor will do
        counted = counted.clamp_min(1e-3)
        own, other, own_squares, squares, products = (s / counted for s in sums)
        return own, other, (own_squares - own * own).clamp_min(0), squares, products, counted
