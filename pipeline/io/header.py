"""Headers of NIfTI files: geometry in millimetres, and checks for invalid or ambiguous headers.

Every part of the software asks this file, so that all of them see the same grid or refuse a file in the same words.
A run carries a copy of it in its folder ``scripts``, for MONAI alone (see :mod:`atlaseg.pipeline.bundle_scripts`), so
it needs nothing but NumPy, nibabel and the files that are copied with it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import AtlasegError, GeometryError, HeaderWarning, UnreadableFileError
from atlaseg.pipeline.io.grid import (
    GRID_TOLERANCE_VOXELS,
    Affine,
    corner_distance,
    sizes_in_words,
    spacing_of,
)
from atlaseg.pipeline.io.nifti_file import open_volume, readable

if TYPE_CHECKING:
    import nibabel as nib

__all__ = [
    "Header",
    "HeaderProblem",
    "header_of",
    "header_problems",
    "judged",
    "read_header",
    "spatial_shape_of",
    "volumes_of",
]

#: sform and qform further apart than this (in voxels, at a corner) put labels visibly in the wrong place.
_SERIOUS_DISAGREEMENT_VOXELS = 0.5
#: Axes that are not at right angles, by more than this many voxels at the end of a scan, cannot be put onto the grid of
#: a network without bending the labels.
_SHEAR_VOXELS = 0.1
#: Relative difference of a voxel's size in pixdim and in the sform: more than rounding, and more than carelessness.
_PIXDIM_ROUNDING, _PIXDIM_SERIOUS = 1e-3, 0.05
#: Millimetres in the spatial units of ``xyzt_units``: unknown (taken for mm), metre, millimetre, micron.
_UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}

_USED = " (the sform is used here)"

HeaderKind = Literal["sform-qform", "shear", "pixdim", "no-orientation", "unit", "slope"]


@dataclass(frozen=True)
class HeaderProblem:
    """One problem of a header.

    Args:
        kind: which of the rules it breaks.
        message: without the file's name.
        serious: whether the file is refused; otherwise what is assumed is said.
    """

    kind: HeaderKind
    message: str
    serious: bool


@dataclass(frozen=True, eq=False)
class Header:
    """Geometry and storage of one file, read without its voxels.

    Args:
        path: the file.
        shape: all dimensions as stored, channels (4-D) included.
        affine: ``(4, 4)``, voxel index -> RAS+ mm, converted from the file's unit.
        sform: the sform affine in mm, ``None`` where its code is 0.
        qform: the qform affine in mm, ``None`` where its code is 0.
        dtype: number type on disk.
        zooms: voxel size in mm along the first three axes as ``pixdim`` says.
        unit: the code of the spatial unit in ``xyzt_units``.
        scaling: slope and intercept as stored; a slope of 0 means none.
    """

    path: Path
    shape: tuple[int, ...]
    affine: Affine
    sform: Affine | None
    qform: Affine | None
    dtype: np.dtype[Any]
    zooms: tuple[float, ...] = ()
    unit: int = 2
    scaling: tuple[float, float] = (1.0, 0.0)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """The first three dimensions; a 2-D file is one slice."""
        return spatial_shape_of(self.shape)

    @property
    def channels(self) -> int:
        """Number of volumes in the file: 1, or the product of the dimensions after the third."""
        return math.prod(self.shape[3:])

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm along each axis of the array."""
        return spacing_of(self.affine)

    @property
    def orientation(self) -> str:
        """Closest anatomical axes, such as ``RAS`` or ``LPS``."""
        from nibabel.orientations import aff2axcodes

        return "".join(code or "?" for code in aff2axcodes(self.affine))

    @property
    def obliquity(self) -> float:
        """Largest angle in degrees between a voxel axis and its closest anatomical axis."""
        directions = np.abs(self.affine[:3, :3]) / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.degrees(np.arccos(np.clip(directions.max(axis=0), -1, 1))).max())

    @property
    def problems(self) -> tuple[HeaderProblem, ...]:
        """Problems of this header, in the order in which they are checked."""
        found = (
            _unit(self),
            _slope(self),
            _two_affines(self),
            _shear(self),
            _pixdim(self),
            _no_orientation(self),
        )
        return tuple(problem for problem in found if problem is not None)


def spatial_shape_of(shape: Sequence[int]) -> tuple[int, int, int]:
    """The first three of a file's dimensions, 1 where there are fewer.

    >>> spatial_shape_of((64, 60)), spatial_shape_of((4, 5, 6, 1, 2))
    ((64, 60, 1), (4, 5, 6))
    """
    first, second, third = (*shape[:3], 1, 1, 1)[:3]
    return first, second, third


def _unit(header: Header) -> HeaderProblem | None:
    if header.unit in _UNITS:
        return None
    message = f"xyzt_units names no unit of length (code {header.unit}); millimetres are assumed"
    return HeaderProblem("unit", message, serious=False)


def _slope(header: Header) -> HeaderProblem | None:
    """The voxels are read unscaled then by nibabel, and multiplied by it by other programs."""
    if np.isfinite(header.scaling).all():
        return None
    slope, intercept = header.scaling
    message = (
        f"scl_slope is {slope:g} and scl_inter {intercept:g}, so the values of the voxels are not known; "
        "write the file again (1 and 0 mean unscaled)"
    )
    return HeaderProblem("slope", message, serious=True)


def _two_affines(header: Header) -> HeaderProblem | None:
    """The two affines of one header, where both are set and they disagree."""
    if header.sform is None or header.qform is None:
        return None
    distance = corner_distance(header.sform, header.qform, header.spatial_shape)
    voxels = distance / min(header.spacing)
    if voxels <= GRID_TOLERANCE_VOXELS:
        return None
    serious = voxels > _SERIOUS_DISAGREEMENT_VOXELS
    message = (
        f"sform and qform disagree by up to {distance:.3g} mm, so programs place the voxels differently; "
        f"set the wrong one to the other{_USED * (not serious)}"
    )
    return HeaderProblem("sform-qform", message, serious)


def _shear(header: Header) -> HeaderProblem | None:
    axes = header.affine[:3, :3] / np.linalg.norm(header.affine[:3, :3], axis=0)
    # The nearest axes at right angles; what an axis deviates from its own grows with the distance along it.
    u, _, v = np.linalg.svd(axes)
    reach = (np.asarray(header.spatial_shape) - 1) * np.asarray(header.spacing)
    voxels = float((np.linalg.norm(axes - u @ v, axis=0) * reach).sum()) / min(header.spacing)
    if voxels <= _SHEAR_VOXELS:
        return None
    degrees = max(abs(90 - np.degrees(np.arccos(np.clip((axes.T @ axes)[i, j], -1, 1)))) for i, j in _PAIRS)
    message = (
        f"the axes are not at right angles (off by up to {degrees:.2g} degrees, as a tilted gantry leaves them), which "
        "ITK does not read either; resample the scan and its labels onto an upright grid"
    )
    return HeaderProblem("shear", message, serious=True)


_PAIRS = ((0, 1), (0, 2), (1, 2))


def _pixdim(header: Header) -> HeaderProblem | None:
    """Beside a sform alone, pixdim should say how large voxels are; ITK takes the size from there."""
    if header.sform is None or header.qform is not None:
        return None
    shown, true = np.asarray(header.zooms), np.asarray(header.spacing)
    off = [
        i
        for i, n in enumerate(header.spatial_shape)
        if n > 1 and not abs(shown[i] / true[i] - 1) <= _PIXDIM_ROUNDING
    ]
    if not off:
        return None
    serious = not all(abs(shown[i] / true[i] - 1) <= _PIXDIM_SERIOUS for i in off)
    message = (
        f"pixdim says voxels of {sizes_in_words(shown)} mm, the sform {sizes_in_words(true)} mm, so programs place "
        f"them differently; set pixdim to the sform's{_USED * (not serious)}"
    )
    return HeaderProblem("pixdim", message, serious=serious)


def _no_orientation(header: Header) -> HeaderProblem | None:
    if header.sform is not None or header.qform is not None:
        return None
    message = (
        "neither sform nor qform is set (their codes are 0), so programs place and turn the scan differently; "
        f"assumed here as nibabel does: {header.orientation}, the middle of the scan at 0"
    )
    return HeaderProblem("no-orientation", message, serious=False)


def header_problems(path: Path) -> tuple[Header, tuple[HeaderProblem, ...]]:
    """Header of a file and all that is wrong with it; raises only as :func:`open_volume` does."""
    header = header_of(open_volume(path), path)
    return header, header.problems


def volumes_of(path: Path) -> int | None:
    """Number of volumes in a file, 1 for a 3-D one; ``None`` where it cannot be read."""
    try:
        return header_problems(path)[0].channels
    except AtlasegError:
        return None


def read_header(path: Path) -> Header:
    """Geometry and storage of a NIfTI-1 or -2 file, without reading its voxels.

    What had to be assumed is said as a :class:`~atlaseg.pipeline.errors.HeaderWarning`.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is not NIfTI, or its scaling is not finite.
        GeometryError: its affine is singular or not finite, its axes are not at right angles, or what it says in
            several places does not agree (sform, qform and pixdim).
    """
    return judged(header_of(open_volume(path), path))


def judged(header: Header) -> Header:
    """The header itself, if it is fit for use; raises and warns as :func:`read_header`."""
    for problem in header.problems:
        message = f"{header.path}: {problem.message}"
        if problem.serious:
            raise UnreadableFileError(message) if problem.kind == "slope" else GeometryError(message)
        warnings.warn(message, HeaderWarning, stacklevel=2)
    return header


def header_of(image: nib.Nifti1Image, path: Path) -> Header:
    """Header of an image that :func:`atlaseg.pipeline.io.nifti_file.open_volume` opened."""
    header = image.header
    with readable(path, "sform or qform is not valid"):
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = header.get_qform(coded=True)
    # nibabel's own copy of the header has lost scaling and sizes that are not valid.
    with (
        readable(path, "not a readable NIfTI file"),
        image.file_map["image"].get_prepare_fileobj("rb") as stream,
    ):
        raw = type(header).from_fileobj(stream, check=False)
    unit = int(header["xyzt_units"]) & 7
    scale = _UNITS.get(unit, 1.0)
    return Header(
        path=path,
        shape=tuple(int(n) for n in image.shape),
        affine=_in_mm(image.affine, scale),
        sform=_in_mm(sform, scale) if sform_code else None,
        qform=_in_mm(qform, scale) if qform_code else None,
        dtype=np.dtype(header.get_data_dtype()),
        zooms=tuple(abs(float(size)) * scale for size in raw["pixdim"][1:4]),
        unit=unit,
        scaling=(float(raw["scl_slope"]), float(raw["scl_inter"])),
    )


def _in_mm(affine: npt.ArrayLike, scale: float) -> Affine:
    result = np.array(affine, dtype=np.float64)
    if scale != 1:
        result[:3] *= scale
    return result
