"""Transform files: ITK's own, ANTs' matrices, NIfTI displacement fields, elastix parameters (read only).

| suffix | written by | holds |
|---|---|---|
| ``.tfm``, ``.txt`` | ITK, SimpleITK, 3D Slicer | any transform, as text |
| ``.txt`` that begins with ``(Transform`` | elastix | any of its transforms; read only |
| ``.h5``, ``.hdf5`` | ITK, ANTs, fMRIPrep | any transform, composites too |
| ``.mat`` | ANTs | a linear transform (ITK's MATLAB 4 file, not FSL's text) |
| ``.nii``, ``.nii.gz`` | ANTs, greedy, ITK | displacements at each voxel of a grid, mm |

All map fixed points to moving points, as ITK does it.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlases.registration.displacement import displacement_transform, sample_displacements
from atlases.registration.frames import affine_of, flip_points
from atlases.registration.transform import Transform, parts_of
from pipeline.errors import GeometryError, MissingFileError, OptionError, UnreadableFileError
from pipeline.files import replacing
from pipeline.volume import read_header, read_voxels

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["TRANSFORM_SUFFIXES", "read_transform", "write_transform"]

ITK_SUFFIXES = (".tfm", ".txt", ".h5", ".hdf5", ".mat")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
TRANSFORM_SUFFIXES = (*ITK_SUFFIXES, *NIFTI_SUFFIXES)

#: The HDF5 library inside ITK may be called by one thread at a time.
_ONE_AT_A_TIME = Lock()

#: NIfTI-1 standard, nifti1.h: 1006 "displacement vector", in the file's own RAS+ frame; ITK turns it on reading.
#: 1007 is any vector: ITK and ANTs leave it as it is, in LPS+ mm.
INTENT_DISPLACEMENT, INTENT_VECTOR = 1006, 1007


def read_transform(path: Path) -> Transform:
    """Transform of one file, kind by suffix (``.txt``: by content).

    Raises:
        MissingFileError: there is no such file.
        OptionError: the suffix is none of a transform, or the transform is not 3-D.
        UnreadableFileError: the file is damaged, or something else than its suffix says.
        GeometryError: a displacement field whose affine is singular.
    """
    suffix = _suffix(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    if suffix in NIFTI_SUFFIXES:
        return _read_field(path)
    if suffix == ".txt" and _is_elastix(path):
        from atlases.registration.elastix_parameters import read_transform_parameters

        return read_transform_parameters(path)
    return _read_itk_transform(path)


def write_transform(path: Path, transform: Transform, grid: sitk.Image | None = None) -> None:
    """Write a transform, kind by suffix; parameters keep all their digits except in ``.nii``.

    Args:
        path: ``.tfm`` or ``.txt`` (text), ``.h5`` (best for large ones), ``.mat`` (linear ones, for ANTs), or
            ``.nii``, ``.nii.gz`` (displacements in float32, as ANTs writes them). Written beside its place and
            renamed into it.
        transform: what to write; its known inverse is not written: write ``Transform(known_inverse)`` besides.
        grid: where to sample displacements; only NIfTI files need it. Outside it nothing moves.

    Raises:
        OptionError: unknown suffix; a deformable transform as ``.mat``; NIfTI without a grid.
        GeometryError: a grid with sheared axes, which ITK would not read back from NIfTI.
    """
    import SimpleITK as sitk

    suffix = _suffix(path)
    if suffix in NIFTI_SUFFIXES:
        _write_field(path, transform, grid, suffix)
        return
    itk = transform.itk
    if suffix == ".mat":
        if not transform.is_linear:
            raise OptionError(
                f"{path}: a .mat file holds linear transforms only, this one is deformable; write .h5 or .nii.gz"
            )
        itk = _as_affine(transform)
    with replacing(path, suffix) as temporary, _ONE_AT_A_TIME:
        sitk.WriteTransform(itk, str(temporary))


def _suffix(path: Path) -> str:
    for suffix in (*NIFTI_SUFFIXES, *ITK_SUFFIXES):
        if path.name.lower().endswith(suffix):
            return suffix
    raise OptionError(
        f"{path}: not a transform file by its name; transforms end with {', '.join(TRANSFORM_SUFFIXES)}"
    )


def _is_elastix(path: Path) -> bool:
    """Whether a text file is elastix' and not ITK's: its first words stand in brackets."""
    with path.open("rb") as file:
        start = file.read(4096).decode("latin-1")
    lines = [line.strip() for line in start.splitlines()]
    # elastix writes // before comments; ITK's files begin with "#Insight Transform File"
    content = next((line for line in lines if line and not line.startswith("//")), "")
    return content.startswith("(")


def _read_itk_transform(path: Path) -> Transform:
    import SimpleITK as sitk

    if _suffix(path) in (".tfm", ".txt"):
        _check_whole(path)
    try:
        with _ONE_AT_A_TIME:
            itk = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise UnreadableFileError(
            f"{path}: not readable as an ITK transform ({_reason(error, path)})"
        ) from error
    if itk.GetDimension() != 3:
        raise OptionError(
            f"{path}: transforms of volumes are 3-D, this one is {itk.GetDimension()}-D; register volumes for it"
        )
    if not all(_is_finite(part) for part in parts_of(itk)):
        raise UnreadableFileError(f"{path}: the transform holds NaN or infinite parameters")
    return Transform(itk)


def _check_whole(path: Path) -> None:
    """Refuse text that ends early: ITK would read an identity without a word.

    Raises:
        UnreadableFileError: a transform lacks its line of fixed parameters, which is its last.
    """
    kinds = fixed = 0
    with path.open("rb") as file:
        for line in file:
            kinds += line.startswith(b"Transform:") and b"CompositeTransform" not in line
            fixed += line.startswith(b"FixedParameters:")
    if kinds != fixed:
        raise UnreadableFileError(
            f"{path}: {kinds} transform(s) but {fixed} lines of fixed parameters; is it truncated?"
        )


def _is_finite(itk: sitk.Transform) -> bool:
    """Whether all parameters of one element of a composite are numbers."""
    import SimpleITK as sitk

    if isinstance(itk, sitk.DisplacementFieldTransform):
        # as an image: SimpleITK would make a Python number of each parameter
        field = itk.GetDisplacementField()
        return bool(np.isfinite(sitk.GetArrayViewFromImage(field)).all())
    return bool(np.isfinite(itk.GetFixedParameters()).all() and np.isfinite(itk.GetParameters()).all())


def _reason(error: RuntimeError, path: Path) -> str:
    """The telling part of ITK's report, which runs over many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = next((line for line in lines if "ITK ERROR" in line or "Description" in line), lines[-1])
    if "Could not create" in str(error) or "factory" in str(error).lower():
        telling = "a type of transform that ITK does not know"
    if "failed to read" in str(error) or "failed to read" in telling or telling.endswith("TransformIO"):
        telling = "damaged, or no transform"
    return " ".join(telling.split("): ")[-1].replace(str(path), path.name).split())


def _as_affine(transform: Transform) -> sitk.Transform:
    """One matrix for whatever linear transform, because ANTs reads those from any file."""
    return Transform.from_matrix(transform.matrix).itk


def _read_field(path: Path) -> Transform:
    header = read_header(path)
    if len(header.shape) != 5 or header.shape[3:] != (1, 3):
        raise UnreadableFileError(
            f"{path}: a displacement field is 5-D, (x, y, z, 1, 3); found {header.shape}: is it an image?"
        )
    vectors: npt.NDArray[np.float64] = read_voxels(path)[:, :, :, 0].astype(np.float64)
    if _intent(path) == INTENT_VECTOR:
        vectors = flip_points(vectors)
    try:
        return displacement_transform(np.moveaxis(vectors, -1, 0), header.affine)
    except GeometryError as error:
        raise UnreadableFileError(f"{path}: {error}") from error


def _intent(path: Path) -> int:
    """Intent code of a field whose vectors are displacements in mm.

    Raises:
        UnreadableFileError: the file says that its numbers mean something else.
    """
    import nibabel as nib

    header: Any = nib.load(path).header
    code, name = int(header["intent_code"]), header.get_intent()[2]
    if code not in (INTENT_DISPLACEMENT, INTENT_VECTOR) or name.startswith("NREG"):
        raise UnreadableFileError(
            f"{path}: expected displacements in mm as ANTs and ITK write them (intent 1007 or 1006), found intent "
            f"{code} {name!r}; convert it with the program that wrote it"
        )
    return code


def _write_field(path: Path, transform: Transform, grid: sitk.Image | None, suffix: str) -> None:
    import nibabel as nib

    if grid is None:
        raise OptionError(f"{path}: a NIfTI displacement field needs a grid to lie on; give the fixed image")
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
