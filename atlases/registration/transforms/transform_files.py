"""Transform files: ITK's own, ANTs' matrices, NIfTI displacement fields, elastix parameters (read only).

| suffix | written by | holds |
|---|---|---|
| ``.tfm``, ``.txt`` | ITK, SimpleITK, 3D Slicer, c3d | any transform, as text |
| ``.txt`` that begins with ``(Transform`` | elastix | any of its transforms; read only |
| ``.h5``, ``.hdf5`` | ITK, ANTs, fMRIPrep | any transform, composites too |
| ``.mat`` | ANTs | a linear transform (ITK's MATLAB 4 file, not FSL's text) |
| ``.nii``, ``.nii.gz`` | ANTs, greedy, ITK | displacements at each voxel of a grid, mm |

All map fixed points to moving points, as ITK does it. What is not one of these is refused, with what it seems to be.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.atlases.registration.quiet import quiet
from atlaseg.atlases.registration.transforms.displacement_files import read_field, write_field
from atlaseg.atlases.registration.transforms.foreign_transforms import foreign_transform
from atlaseg.atlases.registration.transforms.itk_transform_files import (
    ITK_SUFFIXES,
    ONE_AT_A_TIME,
    read_itk_transform,
)
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import MissingFileError, OptionError, UnreadableFileError
from atlaseg.pipeline.io.files import replacing
from atlaseg.pipeline.io.full_disk import nearly_full

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["TRANSFORM_SUFFIXES", "check_transform_name", "read_transform", "write_transform"]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
TRANSFORM_SUFFIXES = (*ITK_SUFFIXES, *NIFTI_SUFFIXES)


def read_transform(path: Path | str, own: bool = False) -> Transform:
    """Transform of one file, kind by suffix (``.txt``: by content).

    Args:
        path: the file.
        own: it was written by this software, and need not be tried in a separate process first.

    Raises:
        MissingFileError: there is no such file.
        OptionError: the suffix is not that of a transform, or the transform is not 3-D.
        UnreadableFileError: the file is damaged, or something else than its suffix says; see
            :func:`atlaseg.atlases.registration.transforms.itk_transform_files.read_itk_transform` and
            :func:`atlaseg.atlases.registration.transforms.displacement_files.read_field`.
        GeometryError: a displacement field has an invalid grid.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not path.exists():
        raise MissingFileError(f"{path}: no such file")
    if path.is_dir():
        raise UnreadableFileError(f"{path}: not a transform but {foreign_transform(path)}")
    if suffix in NIFTI_SUFFIXES:
        return read_field(path)
    if suffix == ".txt" and _is_elastix(path):
        from atlaseg.atlases.registration.transforms.elastix_transform import read_transform_parameters

        return read_transform_parameters(path)
    return read_itk_transform(path, own)


def write_transform(path: Path | str, transform: Transform, grid: sitk.Image | None = None) -> None:
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

    path = Path(path)
    suffix = check_transform_name(path, transform.is_linear)
    if suffix in NIFTI_SUFFIXES:
        if grid is None:
            raise OptionError(
                f"{path}: a NIfTI displacement field needs a grid to lie on; give the fixed image"
            )
        write_field(path, transform, grid, suffix)
        return
    # one matrix for any linear transform, because ANTs reads those from any file
    itk = Transform.from_matrix(transform.matrix).itk if suffix == ".mat" else _flat(transform).itk
    # HDF5 prints pages about a full disk, and may not report what it could not write at the end
    with replacing(path, suffix) as temporary, ONE_AT_A_TIME, quiet() if suffix == ".h5" else nullcontext():
        sitk.WriteTransform(itk, str(temporary))
        if nearly_full(path):
            sitk.ReadTransform(str(temporary))


def _flat(transform: Transform) -> Transform:
    """The same without composites in composites, which ITK does not write."""
    import SimpleITK as sitk

    if not isinstance(transform.itk, sitk.CompositeTransform):
        return transform
    parts = [transform.itk.GetNthTransform(n) for n in range(transform.itk.GetNumberOfTransforms())]
    nested = any(isinstance(part, sitk.CompositeTransform) for part in parts)
    return Transform.compose([transform]) if nested else transform


def check_transform_name(path: Path, linear: bool) -> str:
    """Suffix under which a transform can be written, for those who want to know before the work.

    Args:
        path: where it is to be written.
        linear: whether the transform will be a matrix.

    Raises:
        OptionError: unknown suffix, or a deformable transform as ``.mat``.
    """
    suffix = _suffix(path)
    if suffix == ".mat" and not linear:
        raise OptionError(
            f"{path}: a .mat file holds linear transforms only, this one is deformable; write .h5 or .nii.gz"
        )
    return suffix


def _suffix(path: Path) -> str:
    for suffix in (*NIFTI_SUFFIXES, *ITK_SUFFIXES):
        if path.name.lower().endswith(suffix):
            return suffix
    what = foreign_transform(path) if path.exists() else None
    if what is not None:
        raise OptionError(f"{path}: not a transform that is read here but {what}")
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
