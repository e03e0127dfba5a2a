"""Location prior: where structures lie in labelled scans, in coordinates relative to the bounding box."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError

__all__ = ["LocationPrior", "box_coordinates", "pooled"]

#: Cells of the lattice along each axis, at most; as many as the scans have voxels if those are fewer.
LARGEST_LATTICE = 48
#: Share of the labels' overall frequencies in every probability, so that nothing is impossible anywhere.
FLOOR = 1e-3


def box_coordinates(scan: Scan, *, masked: bool) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Affine map from a scan's voxel indices to coordinates between 0 and 1, along the RAS+ axes.

    0 and 1 are the faces of the smallest box along the RAS+ axes around the mask or the whole volume.

    Args:
        scan: the scan.
        masked: the box is the mask's, not the volume's.

    Returns:
        ``(3, 3)`` matrix and ``(3,)`` offset.
    """
    if masked:
        profiles = [scan.mask.any(axis=tuple(b for b in range(3) if b != a)) for a in range(3)]
        ends = [(np.flatnonzero(p)[0] - 0.5, np.flatnonzero(p)[-1] + 0.5) for p in profiles]
    else:
        ends = [(-0.5, n - 0.5) for n in scan.shape]
    corners = np.array([(i, j, k) for i in ends[0] for j in ends[1] for k in ends[2]])
    places = corners @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    low, extent = places.min(axis=0), np.ptp(places, axis=0)
    return scan.affine[:3, :3] / extent[:, None], (scan.affine[:3, 3] - low) / extent


@dataclass(frozen=True, eq=False)
class LocationPrior:
    """Mean one-hot label map of labelled scans on a coarse lattice over their bounding boxes.

    This is a probabilistic atlas whose registration is no more than a box onto a box; Ashburner and Friston,
    NeuroImage 26:839-851 (2005), doi:10.1016/j.neuroimage.2005.02.018, use one that is warped to the scan.

    Args:
        lattice: ``(K, a, b, c)`` float32, probability of each label in each cell, background first; axes along RAS+.
        masked: the boxes are those of masks, not of volumes.
    """

    lattice: npt.NDArray[np.float32]
    masked: bool

    @classmethod
    def learn(
        cls,
        scans: Iterable[Scan],
        labels: Iterable[npt.NDArray[np.integer]],
        classes: int,
        *,
        masked: bool = False,
        smoothing: float = 0.02,
    ) -> Self:
        """Average label maps; each voxel inside a mask counts once.

        Args:
            scans: give geometry and masks.
            labels: one for each scan, ``(x, y, z)`` channel indices.
            classes: ``K``, background included.
            masked: take the boxes of masks.
            smoothing: standard deviation of a Gaussian, as a share of the box' edge, at least half a cell.

        Raises:
            DatasetError: there is no scan.
        """
        from scipy.ndimage import gaussian_filter

        counts: npt.NDArray[np.float64] | None = None
        for scan, label in zip(scans, labels, strict=True):
            if counts is None:
                counts = np.zeros((classes, *_lattice_shape(scan, masked=masked)))
            cells = _cells(scan, counts.shape[1:], masked=masked)
            joint = label[scan.mask].astype(np.int64) * counts[0].size + cells
            counts += np.bincount(joint, minlength=counts.size).reshape(counts.shape)
        if counts is None:
            raise DatasetError("no labelled scan to learn from: label at least one")
        sigma = [max(smoothing * n, 0.5) if n > 1 else 0.0 for n in counts.shape[1:]]
        overall = counts.sum(axis=(1, 2, 3)) / counts.sum()
        smooth = np.stack([gaussian_filter(c, sigma, mode="nearest") for c in counts])
        total = smooth.sum(axis=0)
        chances = np.where(total > 0, smooth / np.where(total > 0, total, 1), overall[:, None, None, None])
        chances = (1 - FLOOR) * chances + FLOOR * overall[:, None, None, None]
        return cls(chances.astype(np.float32), masked)

    @property
    def classes(self) -> int:
        """Number of labels, background included."""
        return int(self.lattice.shape[0])

    def on(self, scan: Scan) -> npt.NDArray[np.float32]:
        """Probabilities ``(K, x, y, z)`` float32 on a scan's grid, summing to one; background outside the mask."""
        from scipy.ndimage import affine_transform

        matrix, offset = box_coordinates(scan, masked=self.masked)
        cells = np.array(self.lattice.shape[1:])
        # the first cell's centre has coordinate half a cell; outside the box the nearest cell speaks
        matrix, offset = matrix * cells[:, None], offset * cells - 0.5
        chances: npt.NDArray[np.float32] = np.stack(
            [
                affine_transform(values, matrix, offset, scan.shape, np.float32, order=1, mode="nearest")
                for values in self.lattice
            ]
        )
        chances /= chances.sum(axis=0)
        chances[:, ~scan.mask] = 0
        chances[0, ~scan.mask] = 1
        return chances


def pooled(
    location: npt.NDArray[np.float32], votes: npt.NDArray[np.floating], weight: float
) -> npt.NDArray[np.float32]:
    """Two priors in one, each with its share of the evidence: ``location ** (1 - weight) * votes ** weight``.

    This is the logarithmic opinion pool; Genest and Zidek, Statistical Science 1:114-135 (1986),
    doi:10.1214/ss/1177013825.

    Args:
        location: probabilities ``(K, x, y, z)``, as :meth:`LocationPrior.on` gives them.
        votes: of atlases that were registered to the scan, of the same shape.
        weight: of the votes, 0 to 1; with 0 the location's own probabilities are returned.

    Raises:
        OptionError: the weight is not between 0 and 1.
        GeometryError: the shapes differ.

    >>> pooled(np.float32([[0.5], [0.5]]), np.float32([[0.1], [0.9]]), 0.5).round(2).ravel().tolist()
    [0.25, 0.75]
    """
    if not 0 <= weight <= 1:
        raise OptionError(f"the weight of the atlases must be at least 0 and at most 1, found {weight}")
    if location.shape != votes.shape:
        raise GeometryError(f"the votes have shape {votes.shape}, expected {location.shape}")
    if weight == 0:
        return location
    chances: npt.NDArray[np.float32] = np.maximum(votes, FLOOR).astype(np.float32) ** np.float32(weight)
    chances *= location ** np.float32(1 - weight)
    return np.asarray(chances / chances.sum(axis=0), dtype=np.float32)


def _lattice_shape(scan: Scan, *, masked: bool) -> tuple[int, ...]:
    """As many cells as voxels lie along each edge of the box, within bounds."""
    matrix, _ = box_coordinates(scan, masked=masked)
    steps = np.abs(matrix).max(axis=1)  # of the voxel axis that follows each RAS+ axis most
    return tuple(int(n) for n in np.clip(np.rint(1 / steps), 1, LARGEST_LATTICE))


def _cells(scan: Scan, shape: Sequence[int], *, masked: bool) -> npt.NDArray[np.int64]:
    """Flat index of the lattice cell in which each voxel of the mask lies."""
    matrix, offset = box_coordinates(scan, masked=masked)
    places = np.argwhere(scan.mask) @ matrix.T + offset
    cells = np.clip(np.floor(places * np.array(shape)).astype(np.int64), 0, np.array(shape) - 1)
    return np.ravel_multi_index(tuple(cells.T), tuple(shape)).astype(np.int64)
