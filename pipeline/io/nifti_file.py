"""Open NIfTI files with nibabel; invalid or too large files are rejected before their voxels are read.

A run carries a copy of this file for MONAI alone (see :mod:`atlaseg.pipeline.bundle_scripts`).
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlaseg.pipeline.errors import GeometryError, MissingFileError, UnreadableFileError
from atlaseg.pipeline.io.grid import Affine
from atlaseg.pipeline.io.scan_names import suffix_of

if TYPE_CHECKING:
    import nibabel as nib

__all__ = ["open_volume", "readable"]

#: No file shrinks by more than this under gzip (deflate's limit is 1032).
_MOST_COMPRESSION = 1100


@contextmanager
def readable(path: Path, problem: str) -> Iterator[None]:
    """Turn everything that nibabel raises on a broken file into an error that names the file."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    broken = (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, ValueError, zlib.error)
    try:
        yield
    # A damaged header can also ask for more voxels than any machine has, or than an integer can count.
    except (*broken, MemoryError, OverflowError) as error:
        reason = (" ".join(str(error).split()) or type(error).__name__).replace(str(path), path.name)
        raise UnreadableFileError(f"{path}: {problem} ({reason})") from error


def open_volume(path: Path) -> nib.Nifti1Image:
    """Image of a NIfTI-1 or -2 file of real numbers, its voxels not yet read, its geometry not yet judged.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is not NIfTI, not of real numbers, or asks for more voxels than it or the memory can
            hold.
        GeometryError: its affine is singular or not finite.
    """
    import nibabel as nib

    if "\0" in str(path) or not path.is_file():
        raise MissingFileError(
            f"{str(path)!r}: no such file" if "\0" in str(path) else f"{path}: no such file"
        )
    with readable(path, "not a readable NIfTI file"), _quiet():
        image = _load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise UnreadableFileError(
            f"{path}: expected NIfTI, found {type(image).__name__}; convert it to .nii.gz"
        )
    if _singular(image.affine):
        raise GeometryError(f"{path}: the affine is not invertible, so voxels have no place in space")
    if image.get_data_dtype().kind not in "iuf":
        raise UnreadableFileError(
            f"{path}: expected one real number per voxel, found {image.get_data_dtype()} (colour or complex)"
        )
    if not image.shape or min(image.shape) < 1:
        raise UnreadableFileError(f"{path}: the file holds no voxels, its shape is {image.shape}")
    if not 2 <= len(image.shape) <= 5:
        raise UnreadableFileError(
            f"{path}: expected 2 to 5 axes (x, y, z, time, channel), found {len(image.shape)}: {image.shape}"
        )
    _refuse_impossible_sizes(image, path)
    return image


def _refuse_impossible_sizes(image: nib.Nifti1Image, path: Path) -> None:
    """Headers that ask for more voxels than the file or the machine can hold, before anything is read."""
    count = math.prod(image.shape)
    needed = count * image.get_data_dtype().itemsize
    held = path.stat().st_size * (_MOST_COMPRESSION if path.name.lower().endswith(".gz") else 1)
    shape = " x ".join(str(n) for n in image.shape)
    if needed > held:
        raise UnreadableFileError(
            f"{path}: the voxels cannot be read, is the file truncated or damaged? Its header asks for {shape} voxels, "
            f"{needed:,} bytes, more than it can hold"
        )
    # as stored, and as the float32 that everything works on
    memory = _free_memory()
    if memory is not None and needed + 4 * count > memory:
        raise UnreadableFileError(
            f"{path}: {shape} voxels need {(needed + 4 * count) / 2**30:.3g} GiB of memory, "
            f"{memory / 2**30:.3g} are free; crop the scan or resample it to larger voxels"
        )


def _free_memory() -> int | None:
    """Available memory in bytes, ``None`` where MONAI runs a bundle without psutil installed."""
    try:
        import psutil
    except ModuleNotFoundError:
        return None
    return int(psutil.virtual_memory().available)


def _load(path: Path) -> Any:
    import nibabel as nib
    from nibabel.fileholders import FileHolder
    from nibabel.openers import ImageOpener

    suffix = suffix_of(path)
    if suffix in (suffix.lower(), suffix.upper()):
        return nib.load(path)
    # of a name in upper and lower case mixed (``.Nii.gz``), nibabel would open another one
    with ImageOpener(str(path)) as stream:
        block = stream.read(540)
    is_second = nib.Nifti2Image.header_class.may_contain_header(block)
    kind = nib.Nifti2Image if is_second else nib.Nifti1Image
    return kind.from_file_map({"image": FileHolder(filename=str(path))})


def _singular(affine: Affine) -> bool:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not lengths.all():
        return True
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out nibabel's remarks on headers, which do not name the file; ours do."""
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
