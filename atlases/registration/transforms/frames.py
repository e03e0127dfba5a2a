"""Convert RAS+ (nibabel, MONAI, atlaseg) to LPS+ (ITK, ANTs, elastix) and back; no other file does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError
from atlaseg.pipeline.io.volume import read_header, read_voxels

if TYPE_CHECKING:
    import SimpleITK as sitk
    from monai.data import MetaTensor

__all__ = ["affine_of", "as_itk", "flip_points", "from_itk", "matrix_between_frames", "read_itk", "to_itk"]

#: RAS+ <-> LPS+, its own inverse.
FLIP = np.diag((-1.0, -1.0, 1.0, 1.0))


def to_itk(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> sitk.Image:
    """ITK image of an array.

    Args:
        voxels: ``(x, y, z)``, number type kept (bool becomes uint8).
        affine: ``(4, 4)``, voxel index -> RAS+ mm; shear is kept as directions that are not at right angles.

    Raises:
        GeometryError: the array is not 3-D, or the affine is singular.
    """
    import SimpleITK as sitk

    if voxels.ndim != 3:
        raise GeometryError(f"registration works on 3-D volumes, found an array of shape {voxels.shape}")
    lps = FLIP @ np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    if not np.isfinite(lps).all() or abs(np.linalg.det(lps[:3, :3])) < 1e-12:
        raise GeometryError("the affine is not invertible, so voxels have no place in space")
    array = voxels.astype(np.uint8) if voxels.dtype == bool else voxels
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def affine_of(image: sitk.Image) -> npt.NDArray[np.float64]:
    """``(4, 4)`` voxel index -> RAS+ mm of an ITK image."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return FLIP @ affine


def from_itk(image: sitk.Image) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Array ``(x, y, z)`` and affine (voxel index -> RAS+ mm) of a scalar ITK image."""
    import SimpleITK as sitk

    # a copy: a view would read freed memory once the image is gone
    return np.array(sitk.GetArrayViewFromImage(image).T, order="C"), affine_of(image)


def as_itk(image: MetaTensor | sitk.Image | Path | str, channel: int = 0) -> sitk.Image:
    """Float32 ITK image of one channel of a tensor with its affine, an ITK image or a file.

    Args:
        image: MetaTensor ``(C, *spatial)`` with its affine in RAS+ mm, a scalar SimpleITK image, or a NIfTI file.
        channel: which of several to take.

    Raises:
        GeometryError: not 3-D, or there is no such channel.
        MissingFileError, UnreadableFileError: as :func:`atlaseg.pipeline.io.volume.read_voxels`.
    """
    import SimpleITK as sitk

    if isinstance(image, str | Path):
        return read_itk(Path(image), channel)
    if isinstance(image, sitk.Image):
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            raise GeometryError(
                f"registration works on 3-D volumes of one number per voxel, found {image.GetDimension()}-D with "
                f"{image.GetNumberOfComponentsPerPixel()}"
            )
        return sitk.Cast(image, sitk.sitkFloat32)
    if image.ndim != 4 or not 0 <= channel < image.shape[0]:
        raise GeometryError(
            f"expected (channels, x, y, z) with channel {channel}, found shape {tuple(image.shape)}"
        )
    return to_itk(
        image.detach().cpu().numpy()[channel].astype(np.float32), np.asarray(image.affine, np.float64)
    )


def read_itk(path: Path, channel: int = 0) -> sitk.Image:
    """Float32 ITK image of one channel of a NIfTI file, without importing torch.

    Raises:
        MissingFileError, UnreadableFileError, GeometryError: as :func:`atlaseg.pipeline.io.volume.read_voxels`, or
            the file has fewer channels.
    """
    header = read_header(path)
    if not 0 <= channel < header.channels:
        raise GeometryError(f"{path}: has {header.channels} channel(s), channel {channel} was asked for")
    voxels = read_voxels(path).reshape(*header.spatial_shape, -1)[..., channel]
    return to_itk(voxels.astype(np.float32), header.affine)


def flip_points(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points ``(..., 3)`` from RAS+ to LPS+ mm, or back."""
    return np.asarray(points, dtype=np.float64) * (-1.0, -1.0, 1.0)


def matrix_between_frames(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A ``(4, 4)`` mapping of points in RAS+ as one in LPS+, or back."""
    return FLIP @ matrix @ FLIP
