"""Initialise a template: the most central atlas of a set, and a common grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.registration.transforms.displacement import empty_grid
from atlaseg.atlases.registration.transforms.frames import from_itk
from atlaseg.atlases.registration.transforms.resampling import resample_labels, seen
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.case import value_counts
from atlaseg.pipeline.io.volume import read_header, read_label_map

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["common_grid", "medoid"]

Matrix = npt.NDArray[np.float64]

#: Voxels around what the grid must hold, because its content still moves into the mean shape.
_MARGIN = 2


def medoid(atlases: AtlasSet) -> str:
    """Name of the atlas whose structures have the most usual volumes.

    That is the least sum of absolute differences between the logarithms of its volumes (mm3, plus one voxel) and
    their medians over the set. Needs no registration; what is special about the atlas is averaged away later.

    Raises:
        AtlasegError: a label map is missing or broken.
    """
    logs = []
    for atlas in atlases.atlases:
        voxel = float(np.prod(read_header(atlas.label).spacing))
        counts = value_counts(read_label_map(atlas.label))
        logs.append([np.log((counts.get(v, 0) + 1) * voxel) for v in atlases.labels.structures])
    volumes = np.array(logs)
    distances = np.abs(volumes - np.median(volumes, axis=0)).sum(axis=1)
    return atlases.names[int(distances.argmin())]


def common_grid(atlases: AtlasSet, poses: Mapping[str, Matrix], centre: str) -> sitk.Image:
    """Grid of a template, in the frame of one atlas.

    Its axes are that atlas' own, in the order and direction nearest to RAS+; its voxel size is the median of the set
    along each of them; it holds every place that at least half of the atlases see or where any has a structure.

    Args:
        atlases: with labels.
        poses: name -> ``(4, 4)`` rigid mapping, point of the central atlas -> point of the atlas, RAS+ mm; atlases
            without one are not asked.
        centre: name of the central atlas.

    Returns:
        Empty image.
    """
    from scipy.linalg import polar

    members = [atlas for atlas in atlases.atlases if atlas.name in poses]
    headers = {atlas.name: read_header(atlas.label) for atlas in members}
    spacing = np.median([_anatomical(headers[a.name].affine)[1] for a in members], axis=0)
    axes = polar(_anatomical(headers[centre].affine)[0])[0]
    corners = np.concatenate(
        [
            _corners(headers[a.name].affine, headers[a.name].spatial_shape)
            @ np.linalg.inv(poses[a.name])[:3].T
            for a in members
        ]
    )
    along = corners @ axes
    low, high = along.min(axis=0), along.max(axis=0)
    shape = np.maximum(1, np.round((high - low) / spacing)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = axes @ ((low + high) / 2 - (shape - 1) / 2 * spacing)
    wide = empty_grid(tuple(shape), affine)
    wanted = _wanted(atlases, poses, wide)
    found = np.argwhere(wanted)
    begin, end = found.min(axis=0) - _MARGIN, found.max(axis=0) + 1 + _MARGIN
    affine[:3, 3] += affine[:3, :3] @ begin
    return empty_grid(tuple(int(n) for n in end - begin), affine)


def _anatomical(affine: Matrix) -> tuple[Matrix, npt.NDArray[np.float64]]:
    """Unit vectors of the voxel axes, columns in the order and direction nearest to RAS+, and voxel sizes."""
    from nibabel.orientations import io_orientation

    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    axes, ordered = np.zeros((3, 3)), np.zeros(3)
    for voxel_axis, (world_axis, direction) in enumerate(io_orientation(affine)):
        axes[:, int(world_axis)] = direction * affine[:3, voxel_axis] / sizes[voxel_axis]
        ordered[int(world_axis)] = sizes[voxel_axis]
    return axes, ordered


def _corners(affine: Matrix, shape: tuple[int, ...]) -> Matrix:
    """Outer corners of a volume, ``(8, 4)`` homogeneous, RAS+ mm."""
    ends = np.array([(-0.5, n - 0.5) for n in shape])
    corners = np.array(
        [[*(ends[axis, side] for axis, side in enumerate(which)), 1.0] for which in np.ndindex(2, 2, 2)]
    )
    return corners @ affine.T


def _wanted(atlases: AtlasSet, poses: Mapping[str, Matrix], grid: sitk.Image) -> npt.NDArray[np.bool_]:
    covered = np.zeros(grid.GetSize(), np.uint16)
    labelled = np.zeros(grid.GetSize(), bool)
    for name, pose in poses.items():
        labels = atlases.subset([name]).atlases[0].labels(atlases.labels)
        transform = Transform.from_matrix(pose)
        covered += from_itk(seen(labels, grid, transform))[0]
        labelled |= from_itk(resample_labels(labels, grid, transform))[0] != 0
    return labelled | (2 * covered >= len(poses))
