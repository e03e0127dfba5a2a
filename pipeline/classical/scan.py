"""Input of every classical method, :class:`Scan`, and output of those without training, :class:`Classes`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import DatasetError, GeometryError
from atlaseg.pipeline.io.mask import inside_of

__all__ = ["PERCENTILES", "Classes", "Scan"]

#: Intensities between these percentiles of the voxels to segment become 0 to 1.
PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume to segment, on its own grid, with intensities of a common scale.

    Made by :meth:`of`, which checks; arrays are not to be written to.

    Args:
        voxels: ``(C, x, y, z)`` float32, finite; the 1st to the 99th percentile inside the mask are 0 to 1.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.
        mask: ``(x, y, z)`` bool, where to segment; everything outside is background.
        prior: ``(K, x, y, z)`` float32, probability of each label at each voxel before the scan is looked at,
            background first, summing to one over ``K``; or ``None``.
        zero: ``(C,)``, where an intensity of 0 in the file lies on the common scale; none is 0 there.
    """

    voxels: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    mask: npt.NDArray[np.bool_]
    prior: npt.NDArray[np.float32] | None = None
    zero: tuple[float, ...] = ()

    @classmethod
    def of(cls, image: Any, affine: Any = None, *, mask: Any = None, prior: Any = None) -> Self:
        """Check a volume, and bring its intensities to a common scale, each channel by itself.

        Args:
            image: ``(C, x, y, z)`` or ``(x, y, z)``: array, or tensor that may carry its affine (``MetaTensor``).
            affine: ``(4, 4)``, voxel index -> RAS+ mm; by default the image's, or else voxels of 1 mm.
            mask: ``(x, y, z)``, not 0 where to segment; by default everywhere.
            prior: ``(K, x, y, z)`` label probabilities, background first.

        Raises:
            GeometryError: the image is not 3-D, or affine, mask or prior do not fit it.
            DatasetError: it holds NaN or infinite voxels, is constant inside the mask, or the mask is empty.

        >>> scan = Scan.of(np.arange(27.0).reshape(3, 3, 3))
        >>> scan.shape, scan.spacing
        ((3, 3, 3), (1.0, 1.0, 1.0))
        >>> Scan.of(np.ones((3, 3, 3)))
        Traceback (most recent call last):
        atlaseg.pipeline.errors.DatasetError: the scan is constant (every voxel is 1): there is nothing to segment
        """
        if affine is None:
            affine = getattr(image, "affine", None)
        voxels = _channels(image)
        inside = _mask(mask, voxels.shape[1:])
        ranges = [_range(channel, inside, n) for n, channel in enumerate(voxels)]
        scaled = [
            ((channel - low) / (high - low)).astype(np.float32)
            for channel, (low, high) in zip(voxels, ranges, strict=True)
        ]
        return cls(
            voxels=np.stack(scaled),
            zero=tuple(-low / (high - low) for low, high in ranges),
            affine=_affine(affine),
            mask=inside,
            prior=None if prior is None else _prior(prior, voxels.shape[1:]),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.voxels.shape[1:]
        return x, y, z

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.voxels.shape[0])

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along each axis of the array."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


@dataclass(frozen=True, eq=False)
class Classes:
    """Result of an unsupervised method: parts of a scan without names. One of the two is given.

    Args:
        regions: ``(x, y, z)`` int32, 0 outside the mask, ``1..n`` inside (many, hard).
        posteriors: ``(n, x, y, z)`` float32, probability of each class, summing to one inside the mask (few, soft).
        named: the classes are the scan's labels, background first, and its prior is in the posteriors already.
    """

    regions: npt.NDArray[np.int32] | None = None
    posteriors: npt.NDArray[np.float32] | None = None
    named: bool = False


def _as_array(values: Any) -> npt.NDArray[Any]:
    """Array of an array or a tensor (a ``MetaTensor`` gives its numbers by ``numpy()`` only without warning)."""
    return np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)


def _channels(image: Any) -> npt.NDArray[Any]:
    voxels = _as_array(image)
    if voxels.ndim == 3:
        voxels = voxels[None]
    if voxels.ndim != 4 or 0 in voxels.shape:
        raise GeometryError(
            f"expected a 3-D scan, (x, y, z) or (C, x, y, z), found an array of shape {voxels.shape}"
        )
    if not np.isfinite(voxels).all():
        number = int((~np.isfinite(voxels)).sum())
        raise DatasetError(
            f"the scan holds {number} NaN or infinite voxels: replace them, or leave the scan out"
        )
    return voxels


def _mask(mask: Any, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    if mask is None:
        return np.ones(shape, dtype=bool)
    given = np.asarray(mask)
    if given.shape != shape:
        raise GeometryError(f"the mask has shape {given.shape}, the scan {shape}: give it on the scan's grid")
    return np.ascontiguousarray(inside_of(given))


def _affine(affine: Any) -> npt.NDArray[np.float64]:
    matrix = np.eye(4) if affine is None else np.array(_as_array(affine), dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not abs(np.linalg.det(matrix[:3, :3])) > 0:
        raise GeometryError("the scan's affine is not an invertible (4, 4) matrix, so voxels have no place")
    return matrix


def _prior(prior: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    chances = np.ascontiguousarray(prior, dtype=np.float32)
    if chances.ndim != 4 or chances.shape[1:] != shape:
        raise GeometryError(
            f"the prior has shape {chances.shape}, expected (K, *{shape}): give it on the scan's grid"
        )
    return chances


def _range(channel: npt.NDArray[Any], inside: npt.NDArray[np.bool_], number: int) -> tuple[float, float]:
    """Percentiles of a channel; where most voxels are equal, its extremes."""
    values = channel[inside].astype(np.float64)
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    if not high > low:
        what = "the scan" if number == 0 else f"channel {number} of the scan"
        raise DatasetError(f"{what} is constant (every voxel is {low:g}): there is nothing to segment")
    return low, high
