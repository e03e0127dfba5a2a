"""Similarity of a scan and a warped image: local correlation, global correlation and mutual information."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import DatasetError, GeometryError

__all__ = ["check_region", "correlation", "local_correlation", "mutual_information"]

Bools = npt.NDArray[np.bool_]

#: Half-width in voxels of the window of the local correlation.
RADIUS = 2
#: Variance in a window, as a share of that of the image, below which it has no contrast to correlate.
_FLAT = 1e-4


def local_correlation(
    fixed: npt.NDArray[Any],
    warped: npt.NDArray[Any],
    region: Bools | None = None,
    radius: int = RADIUS,
) -> float:
    """Mean correlation of two images in the windows around the voxels of a region; -1 to 1.

    Windows in which either image is even count as 0: nothing there says that the images fit. Sign and scale of
    the intensities: a linear change of either image, even a different one in each window, does not matter as long
    as it rises. Cachier and Pennec, "3D non-rigid registration by gradient descent on a Gaussian-windowed similarity
    measure using convolutions", MMBIA 2000, 182-189.

    Args:
        fixed: ``(*spatial)``, any real type.
        warped: the same shape.
        region: the same shape, true where windows are centred; ``None``: everywhere.
        radius: half-width of the cubic window, voxels.

    Raises:
        GeometryError: shapes differ.
        DatasetError: an image is constant or not finite, or the region is empty.
    """
    from scipy.ndimage import uniform_filter

    inside = check_region(fixed, warped, region)
    # The window sums of small numbers around zero keep their digits; offsets of thousands would not.
    a, b = (_standard(array) for array in (fixed, warped))
    width = 2 * radius + 1
    mean_a, mean_b, aa, bb, ab = (uniform_filter(x, width) for x in (a, b, a * a, b * b, a * b))
    variance_a, variance_b = aa - mean_a**2, bb - mean_b**2
    contrast = (variance_a > _FLAT) & (variance_b > _FLAT)
    product = np.sqrt(np.where(contrast, variance_a * variance_b, 1.0))
    values = np.where(contrast, (ab - mean_a * mean_b) / product, 0.0)
    return float(np.clip(values[inside], -1, 1).mean())


def correlation(fixed: npt.NDArray[Any], warped: npt.NDArray[Any], region: Bools | None = None) -> float:
    """Pearson's correlation of two images over a region, -1 to 1; 0 where either is even there.

    Args:
        fixed: ``(*spatial)``, any real type.
        warped: the same shape.
        region: the same shape, true where voxels count; ``None``: everywhere.

    Raises:
        GeometryError, DatasetError: as :func:`local_correlation`.
    """
    inside = check_region(fixed, warped, region)
    a, b = (np.asarray(array[inside], dtype=np.float64) for array in (fixed, warped))
    a, b = a - a.mean(), b - b.mean()
    product = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip((a @ b) / product, -1, 1)) if product > 0 else 0.0


def mutual_information(
    fixed: npt.NDArray[Any], warped: npt.NDArray[Any], region: Bools | None = None, bins: int = 32
) -> float:
    """Normalised mutual information ``(H(A) + H(B)) / H(A, B)`` over a region: 1 (independent) to 2.

    Needs no like contrast, so it suits scans of different kinds. Studholme et al., Pattern Recognition 32:71-86
    (1999), doi:10.1016/S0031-3203(98)00091-0; computed by scikit-image.

    Args:
        fixed: ``(*spatial)``, any real type.
        warped: the same shape.
        region: the same shape, true where voxels count; ``None``: everywhere.
        bins: of the histogram, for each image.

    Raises:
        GeometryError, DatasetError: as :func:`local_correlation`.
    """
    from skimage.metrics import normalized_mutual_information

    inside = check_region(fixed, warped, region)
    a, b = fixed[inside], warped[inside]
    if a.min() == a.max() or b.min() == b.max():
        return 1.0
    return float(normalized_mutual_information(a, b, bins=bins))


def check_region(fixed: npt.NDArray[Any], warped: npt.NDArray[Any], region: Bools | None) -> Bools:
    """The voxels to compare two images at, as booleans.

    Raises:
        GeometryError, DatasetError: as :func:`local_correlation`.
    """
    for name, array in (("warped image", warped), ("region", region)):
        if array is not None and array.shape != fixed.shape:
            raise GeometryError(
                f"{name} has shape {array.shape}, the scan {fixed.shape}: resample it onto the scan's grid"
            )
    for name, array in (("scan", fixed), ("warped image", warped)):
        low, high = float(array.min()), float(array.max())
        if not np.isfinite((low, high)).all():
            raise DatasetError(f"{name}: voxels are NaN or infinite; replace them, for example by 0")
        if low == high:
            raise DatasetError(f"{name}: all voxels have the value {low:g}; nothing can be compared with it")
    inside = np.ones(fixed.shape, dtype=bool) if region is None else region.astype(bool)
    if not inside.any():
        raise DatasetError("the region to compare in is empty; give a mask with at least one voxel")
    return inside


def _standard(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    values = np.asarray(array, dtype=np.float64)
    return (values - values.mean()) / values.std()
