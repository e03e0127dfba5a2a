"""Region growing: from seeds over all voxels that are alike enough and connected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.methods.watershed import watershed
from atlaseg.pipeline.classical.regions.automatic_seeds import grow_automatically, learn_intensities
from atlaseg.pipeline.classical.regions.connected_growth import Homogeneity, checked_growth, grown_from
from atlaseg.pipeline.classical.regions.gradient import gradient_magnitude
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import OptionError

__all__ = ["RegionGrowingOptions", "grow_regions", "seed_map"]

_Values = npt.NDArray[np.floating[Any]]
_Bool = npt.NDArray[np.bool_]


def seed_map(
    points: Mapping[int, Sequence[Sequence[float]]],
    shape: Sequence[int],
    affine: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.int32]:
    """Map of seeds from points, each in the nearest voxel.

    Args:
        points: for each label, 1 or more, its seeds: voxel indices, or RAS+ mm if there is an affine.
        shape: of the volume, 3 axes.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.

    Returns:
        ``(x, y, z)`` int32, label of the seed, 0 elsewhere.

    Raises:
        OptionError: a seed lies outside the volume, two labels share a voxel, a label is below 1, or there is no seed.

    >>> seed_map({3: [(0, 1.2, 0)]}, (1, 3, 1)).ravel().tolist()
    [0, 3, 0]
    >>> seed_map({1: [(-8.0, 0, 0)]}, (4, 4, 4), np.diag([-2.0, 2, 2, 1]))
    Traceback (most recent call last):
    atlaseg.pipeline.errors.OptionError: seed (-8, 0, 0) mm lies in voxel (4, 0, 0), outside the volume of 4 x 4 x 4
    voxels
    """
    seeds = np.zeros(tuple(shape), dtype=np.int32)
    to_voxels = np.eye(4) if affine is None else np.linalg.inv(affine)
    for label, places in points.items():
        if label < 1:
            raise OptionError(f"label {label} cannot have seeds: labels of regions are 1 or more")
        for place in places:
            if len(place) != 3 or not np.isfinite(place).all():
                raise OptionError(f"seed {tuple(place)} is not a point: give three numbers, x, y and z")
            voxel = np.floor(
                to_voxels[:3, :3] @ np.asarray(place, dtype=float) + to_voxels[:3, 3] + 0.5
            ).astype(int)
            at = (int(voxel[0]), int(voxel[1]), int(voxel[2]))
            if (voxel < 0).any() or (voxel >= seeds.shape).any():
                raise OptionError(
                    f"seed {_written(place)}{' mm' if affine is not None else ''} lies in voxel {at}, outside the "
                    f"volume of {' x '.join(map(str, seeds.shape))} voxels"
                )
            if seeds[at] not in (0, label):
                raise OptionError(
                    f"voxel {at} is a seed of label {seeds[at]} and of label {label}: choose one"
                )
            seeds[at] = label
    if not seeds.any():
        raise OptionError("no seed: give at least one point")
    return seeds


def _written(place: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in place) + ")"


def grow_regions(
    voxels: _Values,
    spacing: Sequence[float],
    seeds: npt.NDArray[np.integer[Any]],
    *,
    homogeneity: Homogeneity = "statistics",
    tolerance: float = 0.1,
    multiplier: float = 2.5,
    iterations: int = 4,
    radius: int = 1,
    mask: _Bool | None = None,
) -> npt.NDArray[np.int32]:
    """Grow the regions of several labels; where they claim the same voxel, the gradient decides.

    Each label grows by itself, by :func:`atlaseg.pipeline.classical.regions.connected_growth.grown_from`, so neither
    the order of seeds nor that of labels matters, unlike in Adams and Bischof, IEEE Transactions on Pattern Analysis
    and Machine Intelligence 16(6):641-647 (1994), doi:10.1109/34.295913; Mehnert and Jackway, Pattern Recognition
    Letters 18(10):1065-1071 (1997), discuss why it should not. Voxels that several labels
    claim are flooded (:func:`atlaseg.pipeline.classical.methods.watershed.watershed` of the gradient) from those that
    only one label claims, and from the seeds.

    Args:
        voxels: ``(C, x, y, z)`` or ``(x, y, z)`` intensities, finite.
        spacing: voxel size in mm.
        seeds: ``(x, y, z)`` label of each seed, 0 elsewhere; see :func:`seed_map` for points.
        homogeneity: see :func:`atlaseg.pipeline.classical.regions.connected_growth.grown_from`, as for the options
            below.
        tolerance: of ``range``, ``neighbourhood`` and ``difference``, in units of intensity.
        multiplier: of ``statistics``, in standard deviations.
        iterations: of ``statistics``.
        radius: of the neighbourhood, in voxels.
        mask: ``(x, y, z)``, where regions may grow; by default everywhere.

    Returns:
        ``(x, y, z)`` int32, label of each voxel, 0 where no region came.

    Raises:
        GeometryError: voxels, seeds and mask do not lie on one 3-D grid.
        OptionError: there is no seed, one is negative or outside the mask, or an option has an impossible value.
    """
    channels = voxels if voxels.ndim == 4 else voxels[None]
    inside = checked_growth(channels, seeds, mask)
    labels, first = np.unique(seeds, return_index=True)
    labels = labels[np.argsort(first)]  # by place, so that what a label is called decides no tie
    labels = labels[labels > 0]
    result = np.zeros(seeds.shape, dtype=np.int32)
    claims = np.zeros(seeds.shape, dtype=np.uint16)
    grown = []
    for label in labels:
        region = grown_from(
            channels,
            seeds == label,
            homogeneity=homogeneity,
            tolerance=tolerance,
            multiplier=multiplier,
            iterations=iterations,
            radius=radius,
            mask=inside,
        )
        region &= (seeds == 0) | (seeds == label)
        result[region] = label
        claims += region
        grown.append(np.packbits(region))
    contested = claims > 1
    if contested.any():
        _settle(result, contested, gradient_magnitude(channels, spacing), labels, grown)
    return result


def _settle(
    result: npt.NDArray[np.int32],
    contested: _Bool,
    surface: _Values,
    labels: npt.NDArray[np.integer[Any]],
    grown: Sequence[npt.NDArray[np.uint8]],
) -> None:
    """Give each contested voxel to the claimant whose water reaches it first."""
    from scipy.ndimage import distance_transform_edt

    result[contested] = 0
    regions = [np.unpackbits(bits, count=result.size).reshape(result.shape).astype(bool) for bits in grown]
    flooded = watershed(surface, result, mask=contested | (result > 0))
    nearest = np.full(result.shape, np.inf)
    unassigned = contested.copy()
    for label, region in zip(labels, regions, strict=True):
        won = contested & region & (flooded == label)
        result[won] = label
        unassigned &= ~won
    if not unassigned.any():
        return
    # water of a label that does not claim the voxel: the nearest of those that do
    final = result.copy()
    for label, region in zip(labels, regions, strict=True):
        distance = distance_transform_edt(result != label)
        closer = unassigned & region & (distance < nearest)
        final[closer], nearest[closer] = label, distance[closer]
    result[:] = final


@dataclass(frozen=True)
class RegionGrowingOptions:
    """Options of :func:`grow_regions` from a person's seeds; without seeds, growth follows what was learnt.

    Args:
        homogeneity: when a voxel belongs: see :func:`atlaseg.pipeline.classical.regions.connected_growth.grown_from`.
        tolerance: of all but ``statistics``; the 1st to the 99th percentile of intensities are 0 to 1.
        multiplier: of ``statistics``, in standard deviations.
        iterations: of ``statistics``.
        radius: of the neighbourhood, in voxels.
    """

    name: ClassVar[str] = "region-growing"

    homogeneity: Homogeneity = "statistics"
    tolerance: float = 0.1
    multiplier: float = 2.5
    iterations: int = 4
    radius: int = 1

    def grow(
        self,
        scan: Scan,
        points: Mapping[int, Sequence[Sequence[float]]] | None = None,
        *,
        seeds: npt.NDArray[np.integer[Any]] | None = None,
    ) -> npt.NDArray[np.int32]:
        """Labels ``(x, y, z)`` grown from seeds: points in voxels for each label, or a label map of seeds.

        Raises:
            GeometryError: the map of seeds is not on the scan's grid.
            OptionError: no seeds, seeds both ways, one outside the volume or mask, or an impossible option.
        """
        if (points is None) == (seeds is None):
            raise OptionError("region growing needs seeds: give either points or a label map of seeds")
        return grow_regions(
            scan.voxels,
            scan.spacing,
            seed_map(points, scan.shape) if points is not None else np.asarray(seeds),
            homogeneity=self.homogeneity,
            tolerance=self.tolerance,
            multiplier=self.multiplier,
            iterations=self.iterations,
            radius=self.radius,
            mask=scan.mask,
        )

    def learn(
        self, scans: Iterable[Scan], labels: Iterable[npt.NDArray[np.integer[Any]]], classes: int
    ) -> dict[str, npt.NDArray[np.float32]]:
        """What :meth:`labels` needs: see :func:`learn_intensities`."""
        return learn_intensities(scans, labels, classes)

    def labels(self, scan: Scan, state: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int32]:
        """Channel indices: see :func:`grow_automatically`; no option matters."""
        return grow_automatically(scan, state)
