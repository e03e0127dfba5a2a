"""Intensities brought to one scale, so that scans of different scanners can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.datasets.modality import air_for_filling
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError
from atlaseg.pipeline.io.volume import not_finite

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["PERCENTILES", "rescale", "rescale_itk", "standardise_locally"]

#: What becomes 0 and 1: far enough from the ends that a few hot voxels or a bright vessel change nothing.
PERCENTILES = (1.0, 99.0)
#: Added to the local spread of images in [0, 1], so that noise in even places is not blown up to structure.
_LEAST_SPREAD = 0.05


def rescale(
    image: npt.NDArray[Any],
    mask: npt.NDArray[Any] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    *,
    name: str = "image",
) -> npt.NDArray[np.float32]:
    """Intensities between two percentiles mapped linearly to [0, 1], what lies beyond them clipped.

    What CT scanners fill in around their field of view counts as air
    (:func:`atlaseg.pipeline.datasets.modality.air_for_filling`).

    Percentiles rather than the extremes, as in Nyul and Udupa, Magnetic Resonance in Medicine 42:1072-1081 (1999),
    doi:10.1002/(SICI)1522-2594(199912)42:6<1072::AID-MRM11>3.0.CO;2-M. Where the percentiles coincide (a small
    object before an even background), the smallest and largest values become 0 and 1 instead.

    Args:
        image: one channel, any shape and real number type; not changed.
        mask: same shape, not 0 where the percentiles are taken; everything is rescaled all the same.
        percentiles: lower and upper, ``0 <= lower < upper <= 100``.
        name: what the image is called in errors.

    Returns:
        Same shape, float32, in [0, 1].

    Raises:
        DatasetError: the image is constant (within the mask), or holds NaN or infinity, or the mask is empty.
        GeometryError: image and mask differ in shape.
        OptionError: the percentiles are not rising within 0 to 100.

    >>> rescale(np.array([0, 250, 500, 1000]), percentiles=(0, 100)).tolist()
    [0.0, 0.25, 0.5, 1.0]
    """
    image = air_for_filling(image)
    low, high = _range(image, mask, percentiles, name)
    # the difference first, in double precision: large offsets would lose the digits that matter
    scaled = (np.asarray(image, dtype=np.float64) - low) / (high - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def rescale_itk(
    image: sitk.Image,
    mask: sitk.Image | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    *,
    name: str = "image",
) -> sitk.Image:
    """The same as :func:`rescale` for a scalar ITK image: float32, its grid kept.

    Raises:
        DatasetError, GeometryError, OptionError: as :func:`rescale`; grids are compared by shape alone.
    """
    import SimpleITK as sitk

    inside = None if mask is None else sitk.GetArrayViewFromImage(mask)
    result = sitk.GetImageFromArray(
        rescale(sitk.GetArrayViewFromImage(image), inside, percentiles, name=name)
    )
    result.CopyInformation(image)
    return result


def _range(
    image: npt.NDArray[Any], mask: npt.NDArray[Any] | None, percentiles: tuple[float, float], name: str
) -> tuple[float, float]:
    """Intensities that become 0 and 1."""
    lower, upper = percentiles
    if not 0 <= lower < upper <= 100:
        raise OptionError(f"percentiles must rise within 0 to 100, found {lower:g} and {upper:g}")
    if mask is not None and mask.shape != image.shape:
        raise GeometryError(
            f"{name}: its mask has shape {mask.shape}, expected {image.shape}; give a mask on its grid"
        )
    if problem := not_finite(image):
        raise DatasetError(f"{name}: {problem}")
    values = image.ravel() if mask is None else image[mask != 0]
    if not values.size:
        raise DatasetError(f"{name}: its mask is empty; give one with voxels that are not 0, or none")
    low, high = (float(v) for v in np.percentile(values, (lower, upper)))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        where = "" if mask is None else " within its mask"
        raise DatasetError(
            f"{name}: every voxel{where} is {low:g}; expected an image with contrast, check the file"
        )
    return low, high


def standardise_locally(image: sitk.Image, sigma_mm: float) -> sitk.Image:
    """Image whose every neighbourhood has about mean 0 and standard deviation 1.

    The correlation of two such images is a local correlation: what is bright beside its surroundings counts,
    whatever the bias field or the tissue around. Cachier and Pennec, "3D non-rigid registration by gradient descent on
    a Gaussian-windowed similarity measure using convolutions", MMBIA 2000, 182-189.

    Args:
        image: float32 in [0, 1].
        sigma_mm: standard deviation of the Gaussian window, mm.
    """
    import SimpleITK as sitk

    # not by the recursive filter, which needs four voxels along every axis
    variance = [sigma_mm**2] * 3
    widest = int(8 * max(sigma_mm / step for step in image.GetSpacing())) + 3
    mean = sitk.DiscreteGaussian(image, variance, widest, 0.01, True)
    square = sitk.DiscreteGaussian(image * image, variance, widest, 0.01, True)
    spread = sitk.Sqrt(sitk.Maximum(square - mean * mean, 0.0))
    return sitk.Cast((image - mean) / (spread + _LEAST_SPREAD), sitk.sitkFloat32)
