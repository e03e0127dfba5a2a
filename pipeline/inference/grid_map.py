"""From the voxels of a scan to those of the network's grid: one scale and one offset per axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError

__all__ = ["AxisSamples", "GridMap"]

#: Off-axis parts of the map that move no voxel of the scan by more than this many network voxels come from
#: rounded headers and are left out.
ALIGNMENT_TOLERANCE_VOXELS = 0.1
#: Coordinates closer to a whole number than this are that number: only rounding keeps them apart.
_SNAP_VOXELS = 1e-6


@dataclass(frozen=True, eq=False)
class AxisSamples:
    """Interpolation of the scan's voxels along one axis between those of the network's grid.

    Args:
        start: first scan voxel on the network's grid; those before it and after the last are background.
        lower: for each scan voxel from ``start`` on, the network voxel at or below it.
        weight: share of the next network voxel in linear interpolation, in [0, 1).
    """

    start: int
    lower: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]

    @property
    def inside(self) -> slice:
        """The scan's voxels that lie on the network's grid."""
        return slice(self.start, self.start + len(self.lower))

    @property
    def exact(self) -> bool:
        """Whether every scan voxel coincides with a network voxel."""
        return not self.weight.any()

    def shifted(self, voxels: int) -> AxisSamples:
        """The same for a network array that has ``voxels`` more in front."""
        return replace(self, lower=self.lower + voxels)


@dataclass(frozen=True, eq=False)
class GridMap:
    """Map from scan voxels to network voxels that permutes, flips, scales and shifts axes.

    Network voxel along axis ``a`` = ``scale[a] * (scan voxel along axes[a]) + offset[a]``.

    Args:
        axes: for each network axis, the scan axis along which it runs.
        scale: network voxels per scan voxel, negative where the axis is flipped.
        offset: network coordinate of scan voxel 0.

    >>> scan = np.diag([-1.0, -1.0, 5.0, 1.0])            # LPS, 1 x 1 x 5 mm
    >>> network = np.diag([2.0, 2.0, 2.0, 1.0])           # RAS, 2 mm
    >>> network[:3, 3] = [-9, -9, 0]
    >>> grid_map = GridMap.between(scan, (10, 10, 3), network)
    >>> grid_map.axes, grid_map.scale.tolist(), grid_map.offset.tolist()
    ((0, 1, 2), [-0.5, -0.5, 2.5], [4.5, 4.5, 0.0])
    """

    axes: tuple[int, int, int]
    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]

    @classmethod
    def between(
        cls,
        scan_affine: npt.NDArray[np.float64],
        scan_shape: Sequence[int],
        network_affine: npt.NDArray[np.float64],
    ) -> GridMap:
        """Map between two grids given by their affines (voxel index -> RAS+ mm).

        Raises:
            GeometryError: an affine is singular, or the grids are turned or sheared against each other.
        """
        try:
            matrix = np.linalg.solve(network_affine, scan_affine)
        except np.linalg.LinAlgError as error:
            raise GeometryError(
                "the affine of the preprocessed scan is singular; expected voxel -> mm"
            ) from error
        linear: npt.NDArray[np.float64] = matrix[:3, :3].astype(np.float64)
        axes = tuple(int(axis) for axis in np.abs(linear).argmax(axis=1))
        aligned = np.zeros_like(linear)
        aligned[range(3), axes] = linear[range(3), axes]
        reach = np.maximum(np.asarray(scan_shape, dtype=np.float64) - 1, 0)
        error_voxels = float((np.abs(linear - aligned) @ reach).max())
        if not np.isfinite(matrix).all() or len(set(axes)) < 3 or error_voxels > ALIGNMENT_TOLERANCE_VOXELS:
            raise GeometryError(
                "the network's grid and the scan's must have parallel axes, found them turned or sheared by "
                f"up to {error_voxels:.3g} voxels; resample the scan onto a grid with right angles first"
            )
        return cls(
            (axes[0], axes[1], axes[2]), aligned[range(3), axes], np.array(matrix[:3, 3], dtype=np.float64)
        )

    def samples(self, axis: int, scan_size: int, content: slice) -> AxisSamples:
        """Positions of the scan's voxels along one network axis.

        The network's array may be less than the grid that covers the scan (cropped to the foreground) or
        more (padded). MONAI's way back cuts off what was padded, fills what was cropped with zeros, and
        repeats the edge. Between the last voxel and the first zero the largest class stays the largest, so
        all of this is: positions within one voxel of the content are moved to its edge, all others are
        background.

        Args:
            axis: of the network's array.
            scan_size: of the scan along the axis that belongs to it.
            content: the network's voxels along ``axis`` that are scan and not padding.
        """
        position = self.scale[axis] * np.arange(scan_size) + self.offset[axis]
        whole = np.rint(position)
        position = np.where(np.abs(position - whole) < _SNAP_VOXELS, whole, position)
        first = int(np.rint(position.min()))
        # Spacingd rounds the number of voxels to the nearest; halfway, what the array has decides.
        last = first + int(np.floor(np.ptp(position) + 0.5 + _SNAP_VOXELS))
        low, high = max(first, content.start), min(last, content.stop - 1)
        inside = np.flatnonzero((position > low - 1) & (position < high + 1))
        if low > high or len(inside) == 0:
            return AxisSamples(0, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
        clamped = np.clip(position[inside], low, high)
        lower = np.floor(clamped).astype(np.int64)
        return AxisSamples(int(inside[0]), lower, (clamped - lower).astype(np.float32))
