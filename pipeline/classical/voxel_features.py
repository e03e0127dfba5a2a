"""Features of voxels, intensity and position, for methods that classify each voxel independently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.location_prior import box_coordinates
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import OptionError

__all__ = ["feature_names", "voxel_features"]


def voxel_features(
    scan: Scan,
    *,
    sigmas_mm: Sequence[float] = (0.0, 1.0, 2.0),
    gradient: bool = True,
    position: bool = True,
    masked: bool | None = None,
) -> npt.NDArray[np.float32]:
    """Features of each voxel inside a scan's mask, in the order of ``np.flatnonzero(scan.mask)``.

    Intensity seen through Gaussians of several widths, length of the gradient through each, and place in the box
    around the mask or the volume, which is all the alignment that scans of the same region get here. Outside the
    volume the nearest voxel goes on; outside the mask the scan is what it is.

    Args:
        scan: the scan.
        sigmas_mm: standard deviations of the Gaussians in mm; 0 is the voxel itself.
        gradient: give the length of the gradient, per mm, times the width, or for width 0 times one voxel (why times
            the width: Lindeberg, International Journal of Computer Vision 30(2):79-116 (1998),
            https://doi.org/10.1023/A:1008045108935).
        position: give the coordinates along R, A and S, 0 to 1 over the box.
        masked: the box is the mask's; by default if there is a mask.

    Returns:
        ``(N, F)`` float32, columns as :func:`feature_names` calls them.

    Raises:
        OptionError: no feature is asked for, or a width is negative or not finite.

    >>> voxel_features(Scan.of(np.arange(27.0).reshape(3, 3, 3))).shape
    (27, 9)
    """
    feature_names(scan.channels, sigmas_mm=sigmas_mm, gradient=gradient, position=position)
    columns: list[Any] = []
    for channel in scan.voxels:
        for sigma in sigmas_mm:
            columns += _at_scale(channel, scan, sigma, gradient)
    if position:
        matrix, offset = box_coordinates(scan, masked=not scan.mask.all() if masked is None else masked)
        index = np.nonzero(scan.mask)
        columns += [sum(matrix[a, b] * index[b] for b in range(3)) + offset[a] for a in range(3)]
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1)


def feature_names(
    channels: int,
    *,
    sigmas_mm: Sequence[float] = (0.0, 1.0, 2.0),
    gradient: bool = True,
    position: bool = True,
) -> list[str]:
    """Names of the columns of :func:`voxel_features`.

    >>> feature_names(1, sigmas_mm=(0, 2), position=False)
    ['channel 0 at 0 mm', 'gradient of channel 0 at 0 mm', 'channel 0 at 2 mm', 'gradient of channel 0 at 2 mm']

    Raises:
        OptionError: no feature is asked for, or a width is negative or not finite.
    """
    if not sigmas_mm and not position:
        raise OptionError("features: name a width in sigmas_mm, or let position be a feature; found none")
    if not all(0 <= sigma < np.inf for sigma in sigmas_mm):
        raise OptionError(f"features: widths in mm must be 0 or more and finite, found {tuple(sigmas_mm)}")
    kinds = ("", "gradient of ") if gradient else ("",)
    names = [f"{kind}channel {c} at {s:g} mm" for c in range(channels) for s in sigmas_mm for kind in kinds]
    return names + (["R", "A", "S"] if position else [])


def _at_scale(
    channel: npt.NDArray[np.float32], scan: Scan, sigma: float, gradient: bool
) -> list[npt.NDArray[np.float32]]:
    """Intensity and gradient through one Gaussian."""
    from scipy.ndimage import gaussian_filter

    seen = channel
    if sigma > 0:
        seen = gaussian_filter(channel, [sigma / step for step in scan.spacing], mode="nearest")
    columns = [seen[scan.mask]]
    if gradient:
        # axis by axis, so that only one more volume is held at a time
        squares = np.zeros_like(seen)
        for axis, step in enumerate(scan.spacing):
            if seen.shape[axis] > 1:
                squares += np.gradient(seen, step, axis=axis) ** 2
        columns.append(np.sqrt(squares[scan.mask]) * np.float32(sigma or min(scan.spacing)))
    return columns
