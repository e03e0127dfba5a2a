"""NIfTI files of displacements: ``(x, y, z, 1, 3)``, the distance in mm from each voxel to where it is carried.

Files of that shape hold other things too (absolute positions, velocities, displacements in voxels), which would warp a
scan beyond recognition or, worse, a little. So a file is taken only where all that it says fits displacements in mm.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.displacement import displacement_transform, sample_displacements
from atlaseg.atlases.registration.transforms.frames import affine_of, flip_points
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError, UnreadableFileError
from atlaseg.pipeline.io.files import replacing
from atlaseg.pipeline.io.volume import Header, read_header, read_voxels

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["is_field_of_vectors", "read_field", "write_field"]

#: NIfTI-1 standard, nifti1.h: 1006 "displacement vector", in the file's own RAS+ frame; ITK turns it on reading.
#: 1007 is any vector: ITK, ANTs and greedy write displacements so, in LPS+ mm.
INTENT_DISPLACEMENT, INTENT_VECTOR = 1006, 1007
#: Codes of nifti1.h for the unit of length: not said, and millimetres.
_UNITS_OF_MM = (0, 2)
#: ITK, ANTs, greedy and 3D Slicer leave the name of the intent empty.
_DISPLACEMENT = re.compile(r"displ|dispvect", re.IGNORECASE)
#: Words of programs for fields that are no displacements; SPM writes "Mapping" and "Deformation".
_SOMETHING_ELSE = re.compile(
    r"\b(mapping|deformations?|absolute|positions?|velocit(y|ies)|momentum|dartel|svf|warped coordinates)\b",
    re.IGNORECASE,
)
#: A map that stretches the whole scan by more than this along each axis is not anatomical: positions that are added
#: to the places of the voxels stretch by two.
_MOST_STRETCH = 1.6
#: How far the indices of voxels may be moved, as a share of the scan, and still be taken for indices.
_LIKENESS = 0.2
#: Voxels looked at along each axis.
_SAMPLES = 24

_CONVERT = (
    "convert it to displacements in mm as ANTs and ITK write them (intent 1007 in LPS+, or 1006 in RAS+)"
)


def read_field(path: Path) -> Transform:
    """Transform of a displacement field.

    Raises:
        MissingFileError, UnreadableFileError, GeometryError: as :func:`atlaseg.pipeline.io.volume.read_header`.
        UnreadableFileError: it is not a displacement field, or is ambiguous; the message says what it looks like.
    """
    header = read_header(path)
    if len(header.shape) != 5 or header.shape[3:] != (1, 3):
        found = f"{path}: a displacement field is 5-D, (x, y, z, 1, 3); found {header.shape}: is it an image"
        if header.shape[-1] != 3:
            raise UnreadableFileError(f"{found}?")
        raise UnreadableFileError(f"{found}, or a field of another program? {_CONVERT}")
    intent = _intent(path, header)
    vectors: npt.NDArray[np.float64] = read_voxels(path, header)[:, :, :, 0].astype(np.float64)
    if what := _positions_in(vectors, header.affine):
        raise UnreadableFileError(
            f"{path}: expected displacements in mm, found {what} of the voxels themselves, as SPM and NiftyReg hold "
            f"them; {_CONVERT}"
        )
    if intent == INTENT_VECTOR:
        vectors = flip_points(vectors)
    try:
        return displacement_transform(np.moveaxis(vectors, -1, 0), header.affine)
    except GeometryError as error:
        raise UnreadableFileError(f"{path}: {error}") from error


def write_field(path: Path, transform: Transform, grid: sitk.Image, suffix: str) -> None:
    """Write displacements in float32, LPS+ mm, as ANTs does; outside the grid nothing moves.

    Raises:
        GeometryError: a grid with sheared axes, which ITK would not read back from NIfTI.
    """
    import nibabel as nib

    affine = affine_of(grid)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
        raise GeometryError(
            f"{path}: the axes of the grid are not at right angles, which NIfTI readers of ITK refuse; write .h5"
        )
    vectors = flip_points(np.moveaxis(sample_displacements(transform, grid), 0, -1))
    image = nib.Nifti1Image(vectors[:, :, :, None].astype(np.float32), affine)
    image.header.set_intent(INTENT_VECTOR)
    image.header.set_xyzt_units("mm")
    # ITK takes the sform only where it is a rotation times a scaling to its last digit; the qform always is
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    with replacing(path, suffix) as temporary:
        nib.save(image, temporary)


def is_field_of_vectors(path: Path) -> bool:
    """Whether the header of a volume says that its voxels are vectors, which turn where space is turned."""
    return int(_raw_header(path)["intent_code"]) in (INTENT_DISPLACEMENT, INTENT_VECTOR)


def _raw_header(path: Path) -> Any:
    from atlaseg.pipeline.io.nifti_file import open_volume

    return open_volume(path).header


def _intent(path: Path, header: Header) -> int:
    """Intent code of a field whose vectors are displacements in mm.

    Raises:
        UnreadableFileError: the file says that its numbers mean something else, or nothing at all.
    """
    raw = _raw_header(path)
    code, name = int(raw["intent_code"]), raw.get_intent()[2]
    description = raw["descrip"].item().decode("latin-1").strip()
    found = None
    if code not in (INTENT_DISPLACEMENT, INTENT_VECTOR) or (name and not _DISPLACEMENT.search(name)):
        found = f"intent {code} {name!r}"
    elif _SOMETHING_ELSE.search(name + " " + description) and not _DISPLACEMENT.search(description):
        found = f"a field described as {description!r}"
    elif header.unit not in _UNITS_OF_MM:
        found = "another unit in its header, and programs differ in whether it is that of its vectors"
    if found is not None:
        raise UnreadableFileError(f"{path}: expected displacements in mm, found {found}; {_CONVERT}")
    return code


def _positions_in(vectors: npt.NDArray[np.float64], affine: npt.NDArray[np.float64]) -> str | None:
    """Whether vectors ``(x, y, z, 3)`` are places rather than displacements, in words.

    Places in mm follow the grid, so that as displacements they would about double the whole scan, in the frame that
    they are in. Indices of voxels are near the indices.
    """
    shape = vectors.shape[:3]
    wide = [axis for axis in range(3) if shape[axis] > 1]
    axes = [np.arange(0, n, max(1, n // _SAMPLES)) for n in shape]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float64)
    values = vectors[np.ix_(*axes)].reshape(-1, 3)
    if not wide or not np.isfinite(values).all():
        return None
    design = np.column_stack([indices[:, wide], np.ones(len(indices))])
    slope = np.linalg.lstsq(design, values, rcond=None)[0][:-1].T  # (3, axes): mm from voxel to voxel
    by_mm = slope @ np.linalg.pinv(affine[:3, wide])  # derivative of the vectors by the place in RAS+ mm
    for derivative in (by_mm, flip_points(by_mm.T).T):
        if np.linalg.det(np.eye(3) + derivative) > _MOST_STRETCH ** len(wide):
            return "the positions in mm"
    off = np.abs(values - indices)[:, wide].max(axis=0)
    if (off < _LIKENESS * (np.array(shape)[wide] - 1)).all():
        return "the indices"
    return None
