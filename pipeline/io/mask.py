"""Masks: every non-zero voxel is inside, whatever the data type and value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import DatasetError, GeometryError
from atlaseg.pipeline.io.volume import grid_difference, read_header, read_voxels

__all__ = ["inside_of", "read_mask"]


def inside_of(voxels: npt.NDArray[Any], name: str | None = None) -> npt.NDArray[np.bool_]:
    """Voxels inside a mask: all non-zero ones (1, 255, -1, 0.3).

    Args:
        voxels: any shape, any real number type or bool.
        name: what the mask is called in errors; ``None`` where the caller says it.

    Raises:
        DatasetError: the mask is empty, or holds NaN or infinite voxels, which are neither inside nor outside.

    >>> inside_of(np.array([0, -1, 255])).tolist()
    [False, True, True]
    """
    where = "" if name is None else f"{name}: "
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise DatasetError(f"{where}the mask holds NaN or infinite voxels; set them to 0 or 1")
    inside: npt.NDArray[np.bool_] = voxels != 0
    if not inside.any():
        raise DatasetError(f"{where}the mask is empty; draw it, or go without")
    return inside


def read_mask(path: Path, scan: Path | None = None) -> npt.NDArray[np.bool_]:
    """Mask ``(x, y, z)`` of a file, by the rule of :func:`inside_of`.

    Args:
        path: the mask.
        scan: on whose grid it must lie; ``None``: no matter.

    Raises:
        MissingFileError, UnreadableFileError: as :func:`atlaseg.pipeline.io.volume.read_voxels`.
        GeometryError: the mask has several volumes, or another grid than the scan.
        DatasetError: as :func:`inside_of`.
    """
    header = read_header(path)
    if header.channels != 1:
        raise GeometryError(f"{path}: a mask must be 3-D, found {header.channels} volumes in the file")
    if scan is not None and (difference := grid_difference(read_header(scan), header)):
        raise GeometryError(
            f"{path}: not on the grid of {scan.name} ({difference}); resample it onto the scan"
        )
    return inside_of(read_voxels(path, header).reshape(header.spatial_shape), str(path))
