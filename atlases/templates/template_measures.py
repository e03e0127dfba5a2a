"""Figures of a template: how sharp it is, and how much a round changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.frames import from_itk

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["change", "sharpness"]

Floats = npt.NDArray[np.float32]


def change(before: Floats, after: Floats, region: npt.NDArray[np.bool_]) -> float:
    """Root mean square difference of two templates over a region, over the standard deviation of the second.

    Args:
        before: ``(x, y, z)``.
        after: the same shape.
        region: the same shape, true where voxels count.
    """
    spread = float(after[region].std())
    return float(np.sqrt(np.mean((after[region] - before[region]) ** 2))) / spread if spread > 0 else 0.0


def sharpness(image: sitk.Image, region: npt.NDArray[np.bool_]) -> float:
    """Mean gradient magnitude over a region, per mm: blurred edges have less.

    Args:
        image: scalar, 3-D.
        region: ``(x, y, z)`` on its grid.
    """
    gradients = np.gradient(from_itk(image)[0].astype(np.float32), *image.GetSpacing())
    return float(np.sqrt(sum(g**2 for g in gradients))[region].mean())
