"""The only reader and writer of volumes: NIfTI in, NIfTI out, headers kept.

Frames: affines map voxel indices to RAS+ millimetres, as nibabel and MONAI hold them.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import GeometryError, LabelError, MissingFileError, OptionError, UnreadableFileError
from pipeline.files import replacing
from pipeline.scan_names import suffix_of

if TYPE_CHECKING:
    import nibabel as nib
    from monai.data import MetaTensor

__all__ = [
    "Header",
    "corner_distance",
    "grid_difference",
    "read_header",
    "read_image",
    "read_label_map",
    "read_voxels",
    "same_grid",
    "write_image",
    "write_label_map",
    "write_probabilities",
]

#: Grids closer than this (largest distance between corresponding corner voxels, in voxels) count as equal.
GRID_TOLERANCE_VOXELS = 1e-2


@dataclass(frozen=True, eq=False)
class Header:
    """Geometry and storage of one file, read without its voxels.

    Args:
        path: the file.
        shape: all dimensions as stored, channels (4-D) included.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.
        sform: the sform affine, ``None`` where its code is 0.
        qform: the qform affine, ``None`` where its code is 0.
        dtype: number type on disk.
    """

    path: Path
    shape: tuple[int, ...]
    affine: npt.NDArray[np.float64]
    sform: npt.NDArray[np.float64] | None
    qform: npt.NDArray[np.float64] | None
    dtype: np.dtype[Any]

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """The first three dimensions; a 2-D file is one slice."""
        return _spatial(self.shape)

    @property
    def channels(self) -> int:
        """Number of volumes in the file: 1, or the product of the dimensions after the third."""
        return math.prod(self.shape[3:])

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm along each axis of the array."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

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


def _spatial(shape: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = (*shape[:3], 1, 1, 1)[:3]
    return first, second, third


def _open(path: Path) -> nib.Nifti1Image:
    import nibabel as nib

    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    with _readable(path, "not a readable NIfTI file"):
        image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise UnreadableFileError(
            f"{path}: expected NIfTI, found {type(image).__name__}; convert it to .nii.gz"
        )
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-12:
        raise GeometryError(f"{path}: the affine is not invertible, so voxels have no place in space")
    if image.get_data_dtype().kind not in "iuf":
        raise UnreadableFileError(
            f"{path}: expected one real number per voxel, found {image.get_data_dtype()} (colour or complex)"
        )
    if not image.shape or min(image.shape) < 1:
        raise UnreadableFileError(f"{path}: the file holds no voxels, its shape is {image.shape}")
    return image


@contextmanager
def _readable(path: Path, problem: str) -> Iterator[None]:
    """Turn everything that nibabel raises on a broken file into an error that names the file."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    broken = (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, ValueError, zlib.error)
    try:
        yield
    # A damaged header can also ask for more voxels than any machine has, or than an integer can count.
    except (*broken, MemoryError, OverflowError) as error:
        reason = _one_line(error).replace(str(path), path.name)
        raise UnreadableFileError(f"{path}: {problem} ({reason})") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _voxels(image: nib.Nifti1Image, path: Path) -> npt.NDArray[Any]:
    """Voxels with the scaling slope applied; integers stay integers where there is no slope."""
    from nibabel.fileholders import FileHolder

    with _readable(path, "the voxels cannot be read, is the file truncated or damaged?"):
        if not path.name.lower().endswith(".gz"):
            return np.asanyarray(image.dataobj)
        with gzip.open(path) as stream:
            voxels = np.asanyarray(type(image).from_file_map({"image": FileHolder(fileobj=stream)}).dataobj)
            # The checksum stands at the end, where nibabel does not look once it has its voxels.
            while stream.read(1 << 20):
                pass
            return voxels


def read_voxels(path: Path) -> npt.NDArray[Any]:
    """Voxels of one file as stored, 4-D included, with the scaling slope applied.

    Raises:
        MissingFileError, UnreadableFileError, GeometryError: as :func:`read_header`.
    """
    return _voxels(_open(path), path)


def read_header(path: Path) -> Header:
    """Geometry and storage of a NIfTI-1 or -2 file, without reading its voxels.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is not NIfTI.
        GeometryError: its affine is singular or not finite.
    """
    image = _open(path)
    header = image.header
    with _readable(path, "sform or qform is not valid"):
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = header.get_qform(coded=True)
    return Header(
        path=path,
        shape=tuple(int(n) for n in image.shape),
        affine=np.asarray(image.affine, dtype=np.float64),
        sform=np.asarray(sform, dtype=np.float64) if sform_code else None,
        qform=np.asarray(qform, dtype=np.float64) if qform_code else None,
        dtype=np.dtype(header.get_data_dtype()),
    )


def read_image(paths: Path | Sequence[Path]) -> MetaTensor:
    """One case's scan as ``(C, *spatial)`` float32, affine in RAS+ mm.

    Args:
        paths: one file per channel, or one file that may be 4-D with channels last.

    Raises:
        MissingFileError, UnreadableFileError: a file is missing or broken.
        GeometryError: the channels of a case lie on different grids.
    """
    import torch
    from monai.data import MetaTensor

    files = [paths] if isinstance(paths, Path) else list(paths)
    channels: list[npt.NDArray[np.float32]] = []
    first = read_header(files[0])
    for path in files:
        difference = grid_difference(first, read_header(path))
        if difference is not None:
            raise GeometryError(
                f"{path}: not on the grid of {files[0].name} ({difference}); resample one onto the other"
            )
        image = _open(path)
        voxels = _voxels(image, path).astype(np.float32)
        volumes: npt.NDArray[np.float32] = voxels.reshape(*_spatial(voxels.shape), -1)
        channels.extend(volumes.transpose(3, 0, 1, 2))
    meta = {"filename_or_obj": str(files[0])}
    return MetaTensor(
        torch.from_numpy(np.stack(channels)), affine=torch.from_numpy(first.affine.copy()), meta=meta
    )


def read_label_map(path: Path) -> npt.NDArray[np.int64]:
    """Label map ``(*spatial)`` as integers; float files are accepted where every voxel is whole.

    Raises:
        MissingFileError, UnreadableFileError: as for images.
        GeometryError: the file has more than three dimensions that are not 1.
        LabelError: voxels are not whole numbers, or not finite.
    """
    voxels = _voxels(_open(path), path)
    if any(n != 1 for n in voxels.shape[3:]):
        raise GeometryError(f"{path}: a label map must be 3-D, found {voxels.ndim}-D {voxels.shape}")
    voxels = voxels.reshape(_spatial(voxels.shape))
    if voxels.dtype.kind == "f":
        if not np.isfinite(voxels).all():
            raise LabelError(f"{path}: the label map holds NaN or infinite voxels")
        rounded = np.rint(voxels)
        # A scaling slope such as 1/255 leaves rounding errors of float32; more than that is not a label.
        if np.abs(voxels - rounded).max(initial=0) > 1e-3:
            worst = voxels.flat[int(np.abs(voxels - rounded).argmax())]
            raise LabelError(
                f"{path}: label values must be whole numbers, found {float(worst):.4g}; was it interpolated?"
            )
        voxels = rounded
    return voxels.astype(np.int64)


def grid_difference(a: Header, b: Header) -> str | None:
    """How the grids of two files differ, in words, or ``None`` where they are the same.

    Affines are compared where it matters, at the corner voxels: closer than a hundredth of a voxel is equal.
    """
    if a.spatial_shape != b.spatial_shape:
        return f"shape {_cross(b.spatial_shape)} instead of {_cross(a.spatial_shape)}"
    distance = corner_distance(a.affine, b.affine, a.spatial_shape)
    if distance <= GRID_TOLERANCE_VOXELS * min(a.spacing):
        return None
    shift = np.linalg.norm(a.affine[:3, 3] - b.affine[:3, 3])
    parts = [f"voxels up to {distance:.3g} mm apart", f"origins {shift:.3g} mm apart"]
    if (angle := _rotation_between(a.affine, b.affine)) > 1e-3:
        parts.append(f"axes turned by {angle:.3g} degrees")
    if not np.allclose(a.spacing, b.spacing, rtol=1e-4):
        parts.append(f"voxel size {_sizes(b.spacing)} instead of {_sizes(a.spacing)} mm")
    return ", ".join(parts)


def corner_distance(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], spatial_shape: Sequence[int]
) -> float:
    """Largest distance in mm between the places that two affines give to the corner voxels of a grid."""
    ends = [(0, n - 1) for n in spatial_shape]
    corners = np.array([(i, j, k, 1) for i in ends[0] for j in ends[1] for k in ends[2]], dtype=float).T
    return float(np.linalg.norm(((a - b) @ corners)[:3], axis=0).max())


def same_grid(a: Header, b: Header) -> bool:
    """Whether two files have the same shape and, to a hundredth of a voxel, the same affine."""
    return grid_difference(a, b) is None


def _cross(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape)


def _sizes(spacing: Sequence[float]) -> str:
    return " x ".join(f"{s:.4g}" for s in spacing)


def _rotation_between(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Largest angle in degrees between corresponding voxel axes of two affines."""
    first = a[:3, :3] / np.linalg.norm(a[:3, :3], axis=0)
    second = b[:3, :3] / np.linalg.norm(b[:3, :3], axis=0)
    # atan2 of cross and dot products keeps small angles exact where arccos of the dot product loses them.
    sine = np.linalg.norm(np.cross(first.T, second.T), axis=1)
    return float(np.degrees(np.arctan2(sine, (first * second).sum(axis=0))).max())


def write_label_map(path: Path, label_map: npt.NDArray[Any], like: Path) -> None:
    """Write label values on the grid of another file, whose header (affine to the last digit) is kept.

    Args:
        path: ``.nii`` or ``.nii.gz``; written beside its place and renamed into it.
        label_map: ``(*spatial)`` of an integer type, which is the type on disk.
        like: the scan that was segmented.

    Raises:
        GeometryError: the label map has not the shape of the scan.
    """
    _write(path, label_map, like, channels=False)


def write_image(path: Path, voxels: npt.NDArray[Any], like: Path) -> None:
    """Write an image as float32 on the grid of another file, whose header (affine to the last digit) is kept.

    Args:
        path: ``.nii`` or ``.nii.gz``; written beside its place and renamed into it.
        voxels: ``(*spatial)``, or ``(C, *spatial)`` for a 4-D file, channels last.
        like: the scan on whose grid the image lies.

    Raises:
        GeometryError: the image has not the shape of the scan.
        OptionError: another suffix.
    """
    channels = voxels.ndim == 4
    values = np.moveaxis(voxels, 0, -1) if channels else voxels
    _write(path, values.astype(np.float32), like, channels=channels)


def write_probabilities(path: Path, probabilities: npt.NDArray[Any], like: Path) -> None:
    """Write probabilities ``(K, *spatial)`` as a 4-D file, channels last, on the grid of another file."""
    _write(path, np.moveaxis(probabilities, 0, -1), like, channels=True)


def _write(path: Path, voxels: npt.NDArray[Any], like: Path, *, channels: bool) -> None:
    import nibabel as nib

    source = _open(like)
    shape = _spatial(source.shape)
    spatial = voxels.shape[:-1] if channels else voxels.shape
    if spatial != shape:
        raise GeometryError(f"{path}: result is {_cross(spatial)} but {like} is {_cross(shape)}")
    header = source.header.copy()
    header.set_data_dtype(voxels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    # Geometry is kept, free text and extensions are not: they may hold a patient's name or DICOM headers.
    header["descrip"] = header["aux_file"] = b""
    if "db_name" in header:  # NIfTI-2 has none
        header["db_name"] = b""
    header.extensions.clear()
    kind = nib.Nifti2Image if isinstance(source, nib.Nifti2Image) else nib.Nifti1Image
    # affine=None keeps sform, qform and their codes exactly as they are in the scan's header
    result = kind(np.asarray(voxels), None, header=header)
    suffix = suffix_of(path).lower()
    if not suffix:
        raise OptionError(f"{path}: results are written as .nii or .nii.gz, choose such a name")
    with replacing(path, suffix) as temporary:
        nib.save(result, temporary)
