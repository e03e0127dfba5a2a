"""The gradient of a scan: where regions have their edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["gradient_magnitude"]


def gradient_magnitude(
    voxels: npt.NDArray[np.floating], spacing: Sequence[float], *, sigma: float = 0.0
) -> npt.NDArray[np.float32]:
    """Length of the gradient, over all channels together.

    Args:
        voxels: ``(C, x, y, z)`` or ``(x, y, z)`` intensities.
        spacing: voxel size in mm.
        sigma: standard deviation in mm of a Gaussian that smooths first; 0 for none.

    Returns:
        ``(x, y, z)`` float32, intensity per mm: central differences, one-sided at the faces of the volume.

    Raises:
        GeometryError: the volume is not 3-D.
        OptionError: sigma is negative.

    >>> ramp = np.arange(4.0)[:, None, None] * np.ones((4, 3, 1))
    >>> np.unique(gradient_magnitude(ramp, (0.5, 1, 1)))
    array([2.], dtype=float32)
    """
    from scipy.ndimage import gaussian_filter

    channels = voxels if voxels.ndim == 4 else voxels[None]
    if channels.ndim != 4 or len(spacing) != 3:
        raise GeometryError(
            f"expected a 3-D image, found shape {voxels.shape} and {len(spacing)} voxel sizes"
        )
    if not sigma >= 0:
        raise OptionError(f"sigma {sigma} mm is not possible: give 0 or more")
    squared = np.zeros(channels.shape[1:], dtype=np.float32)
    for channel in channels:
        smooth = channel.astype(np.float32)
        if sigma:
            smooth = gaussian_filter(smooth, [sigma / s for s in spacing], mode="nearest")
        for axis, size in enumerate(spacing):
            if smooth.shape[axis] > 1:
                squared += np.gradient(smooth, size, axis=axis) ** 2
    return np.sqrt(squared)
