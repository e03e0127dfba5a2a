"""Read and write volumes: the only reader and writer of atlaseg; headers are preserved.

Frames: affines map voxel indices to RAS+ millimetres, as nibabel and MONAI hold them. What a header may say is judged
in :mod:`atlaseg.pipeline.io.header`, which this file offers too. A run carries a copy of both for MONAI alone (see
:mod:`atlaseg.pipeline.bundle_scripts`).
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import DatasetError, GeometryError, LabelError, OptionError
from atlaseg.pipeline.io.files import replacing
from atlaseg.pipeline.io.grid import GRID_TOLERANCE_VOXELS, Grid, corner_distance, grid_difference, same_grid
from atlaseg.pipeline.io.header import (
    Header,
    HeaderProblem,
    header_of,
    header_problems,
    judged,
    read_header,
    spatial_shape_of,
    volumes_of,
)
from atlaseg.pipeline.io.nifti_file import open_volume, readable
from atlaseg.pipeline.io.scan_names import suffix_of

if TYPE_CHECKING:
    import nibabel as nib
    from monai.data import MetaTensor

__all__ = [
    "GRID_TOLERANCE_VOXELS",
    "Grid",
    "Header",
    "HeaderProblem",
    "corner_distance",
    "grid_difference",
    "header_problems",
    "not_finite",
    "read_channels",
    "read_header",
    "read_image",
    "read_label_map",
    "read_voxels",
    "same_grid",
    "volumes_of",
    "write_image",
    "write_label_map",
    "write_probabilities",
]

#: How far from a whole number a label may lie: rounding of float32, and no more.
_LABEL_ROUNDING = 1e-3
#: Bytes that may follow the voxels in a compressed file; a program may have padded it.
_MOST_PADDING = 1 << 24
#: All that a result takes from the header of its scan, besides the size of voxels. Every other field, extensions too,
#: may hold a patient's name or what a program noted.
_GEOMETRY = (
    *("xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def _voxels(image: nib.Nifti1Image, path: Path) -> npt.NDArray[Any]:
    """Voxels with the scaling slope applied; integers stay integers where there is no slope."""
    from nibabel.fileholders import FileHolder

    with readable(path, "the voxels cannot be read, is the file truncated or damaged?"):
        if not path.name.lower().endswith(".gz"):
            return np.asanyarray(image.dataobj)
        with gzip.open(path) as stream:
            voxels = np.asanyarray(type(image).from_file_map({"image": FileHolder(fileobj=stream)}).dataobj)
            # The checksum stands at the end, where nibabel does not look once it has its voxels.
            left = _MOST_PADDING
            while part := stream.read(1 << 20):
                left -= len(part)
                if left < 0:
                    raise ValueError("its content continues long after the last voxel")
            return voxels


def read_voxels(path: Path, header: Header | None = None) -> npt.NDArray[Any]:
    """Voxels of one file as stored, 4-D included, with the scaling slope applied.

    Args:
        path: the file.
        header: of the file, where it has been read and judged already.

    Raises:
        MissingFileError, UnreadableFileError, GeometryError: as :func:`read_header`.
    """
    image = open_volume(path)
    if header is None:
        judged(header_of(image, path))
    return _voxels(image, path)


def not_finite(voxels: npt.NDArray[Any]) -> str | None:
    """Problem of voxels that are NaN or infinite, in words, or ``None`` where all are finite."""
    if voxels.dtype.kind != "f" or (finite := np.isfinite(voxels)).all():
        return None
    bad = int(voxels.size - np.count_nonzero(finite))
    return f"{bad} of {voxels.size} voxels are NaN or infinite; replace them, for example by 0"


def read_channels(paths: Path | str | Sequence[Path | str]) -> tuple[npt.NDArray[np.float32], Header]:
    """One case's scan as ``(C, *spatial)`` float32, and the header of its first file, on whose grid it lies.

    Args:
        paths: one file per channel, or files that may be 4-D with channels last (and 5-D as ITK writes vectors).

    Raises:
        MissingFileError, UnreadableFileError: a file is missing or broken.
        GeometryError: as :func:`read_header`, or the channels of a case lie on different grids.
        DatasetError: voxels are NaN or infinite.
    """
    files = [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]
    channels: list[npt.NDArray[np.float32]] = []
    first = read_header(files[0])
    for path in files:
        header = read_header(path) if channels else first
        difference = grid_difference(first, header)
        if difference is not None:
            raise GeometryError(
                f"{path}: not on the grid of {files[0].name} ({difference}); resample one onto the other"
            )
        voxels = read_voxels(path, header)
        if problem := not_finite(voxels):
            raise DatasetError(f"{path}: {problem}")
        volumes = voxels.astype(np.float32).reshape(*spatial_shape_of(voxels.shape), -1)
        channels.extend(volumes.transpose(3, 0, 1, 2))
    return np.stack(channels), first


def read_image(paths: Path | str | Sequence[Path | str]) -> MetaTensor:
    """One case's scan as ``(C, *spatial)`` float32, affine in RAS+ mm; see :func:`read_channels`."""
    import torch
    from monai.data import MetaTensor

    channels, header = read_channels(paths)
    return MetaTensor(
        torch.from_numpy(channels),
        affine=torch.from_numpy(header.affine.copy()),
        meta={"filename_or_obj": str(header.path)},
    )


def read_label_map(path: Path, header: Header | None = None) -> npt.NDArray[np.int64]:
    """Label map ``(*spatial)`` as integers; float files are accepted where every voxel is whole.

    Args:
        path: the file.
        header: of the file, where it has been read and judged already.

    Raises:
        MissingFileError, UnreadableFileError: as for images.
        GeometryError: as :func:`read_header`, or the file has more than three dimensions that are not 1.
        LabelError: voxels are not whole numbers, not finite, or too large for 64 bits.
    """
    image = open_volume(path)
    header = judged(header_of(image, path)) if header is None else header
    voxels = _voxels(image, path)
    if header.channels != 1:
        raise GeometryError(f"{path}: a label map must be 3-D, found {voxels.ndim}-D {voxels.shape}")
    voxels = voxels.reshape(header.spatial_shape)
    if voxels.dtype.kind == "f":
        if not np.isfinite(voxels).all():
            raise LabelError(f"{path}: the label map holds NaN or infinite voxels")
        rounded = np.rint(voxels)
        off = np.abs(voxels - rounded)
        if off.max(initial=0) > _rounding(header):
            worst = voxels.flat[int(off.argmax())]
            raise LabelError(
                f"{path}: label values must be whole numbers, found {float(worst):.4g}; was it interpolated?"
            )
        voxels = rounded
    if voxels.size and float(voxels.max()) >= 2.0**63:
        raise LabelError(f"{path}: label value {voxels.max():.20g} does not fit a 64-bit integer")
    return voxels.astype(np.int64)


def _rounding(header: Header) -> float:
    """Tolerance of labels to whole numbers: files that store them in steps of a slope are off by half a step."""
    slope = abs(header.scaling[0])
    stepped = header.dtype.kind in "iu" and slope not in (0, 1)
    return max(_LABEL_ROUNDING, min(0.51 * slope, 0.1)) if stepped else _LABEL_ROUNDING


def write_label_map(path: Path, label_map: npt.NDArray[Any], like: Path) -> None:
    """Write label values on the grid of another file, whose geometry is kept to the last digit.

    Args:
        path: ``.nii`` or ``.nii.gz``; written beside its place and renamed into it.
        label_map: ``(*spatial)`` of an integer type, which is the type on disk.
        like: the scan that was segmented.

    Raises:
        GeometryError: the label map has not the shape of the scan.
    """
    _write(path, label_map, like, channels=False)


def write_image(path: Path, voxels: npt.NDArray[Any], like: Path, series: Path | None = None) -> None:
    """Write an image as float32 on the grid of another file, whose geometry is kept to the last digit.

    Args:
        path: ``.nii`` or ``.nii.gz``; written beside its place and renamed into it.
        voxels: ``(*spatial)``, or ``(C, *spatial)`` for a 4-D file, channels last.
        like: the scan on whose grid the image lies.
        series: the 4-D file whose volumes these are; its repetition time and unit of time are kept.

    Raises:
        GeometryError: the image has not the shape of the scan.
        OptionError: another suffix.
    """
    channels = voxels.ndim == 4
    values = np.moveaxis(voxels, 0, -1) if channels else voxels
    _write(path, values.astype(np.float32), like, channels=channels, series=series)


def write_probabilities(path: Path, probabilities: npt.NDArray[Any], like: Path) -> None:
    """Write probabilities ``(K, *spatial)`` as a 4-D file, channels last, on the grid of another file."""
    _write(path, np.moveaxis(probabilities, 0, -1), like, channels=True)


def _write(
    path: Path, voxels: npt.NDArray[Any], like: Path, *, channels: bool, series: Path | None = None
) -> None:
    import nibabel as nib

    source = open_volume(like)
    shape = spatial_shape_of(source.shape)
    spatial = voxels.shape[:-1] if channels else voxels.shape
    if spatial != shape:
        raise GeometryError(
            f"{path}: result is {'x'.join(map(str, spatial))} but {like} is {'x'.join(map(str, shape))}"
        )
    if len(source.shape) < 3 and not channels:
        voxels = voxels.reshape(source.shape)  # a 2-D scan has 2-D labels
    kind = nib.Nifti2Image if isinstance(source, nib.Nifti2Image) else nib.Nifti1Image
    header = kind.header_class(endianness=source.header.endianness)
    header.set_data_dtype(voxels.dtype)
    header.set_slope_inter(1, 0)
    for name in _GEOMETRY:
        header[name] = source.header[name]
    header["pixdim"][:4] = source.header["pixdim"][:4]
    if channels and series is not None:
        time = open_volume(series).header
        header["pixdim"][4], header["toffset"] = time["pixdim"][4], time["toffset"]
        # the first three bits are the unit of length, the next three that of time
        header["xyzt_units"] = (int(header["xyzt_units"]) & 0o7) | (int(time["xyzt_units"]) & 0o70)
    # affine=None keeps sform, qform and their codes exactly as they are in the scan's header
    result = kind(np.asarray(voxels), None, header=header)
    # nibabel forgets how thick the one slice of a 2-D image is, which a qform needs
    result.header["pixdim"][:4] = source.header["pixdim"][:4]
    suffix = suffix_of(path).lower()
    if not suffix:
        raise OptionError(f"{path}: results are written as .nii or .nii.gz, choose such a name")
    with replacing(path, suffix) as temporary:
        nib.save(result, temporary)
