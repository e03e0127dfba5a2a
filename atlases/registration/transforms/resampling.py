"""Moving images and label maps carried to the grid of a fixed image.

Nothing here imports torch, so that worker processes start at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.displacement import field_image
from atlaseg.atlases.registration.transforms.frames import affine_of, flip_points, from_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError, LabelError, OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = [
    "IMAGE_INTERPOLATIONS",
    "LABEL_INTERPOLATIONS",
    "ImageInterpolation",
    "LabelInterpolation",
    "resample_image",
    "resample_labels",
    "resample_memberships",
    "seen",
]

ImageInterpolation = Literal["linear", "bspline", "sinc", "nearest"]
LabelInterpolation = Literal["nearest", "gaussian"]
IMAGE_INTERPOLATIONS: tuple[str, ...] = get_args(ImageInterpolation)
LABEL_INTERPOLATIONS: tuple[str, ...] = get_args(LabelInterpolation)

#: A hole weighs nothing where rounding alone gives it a weight.
NOTHING_OF_A_HOLE = 1e-5


def resample_image(
    moving: sitk.Image,
    fixed_grid: sitk.Image,
    transform: Transform,
    interpolation: ImageInterpolation = "linear",
    outside: float = 0.0,
) -> sitk.Image:
    """Carry an image to another grid.

    Args:
        moving: scalar, 3-D.
        fixed_grid: any image on the grid that is wanted; its voxels are not read.
        transform: fixed -> moving points.
        interpolation: ``linear``; ``bspline`` (cubic); ``sinc`` (Welch window, radius 5: among the windows that
            Meijering et al. 2001, doi:10.1016/S1361-8415(00)00040-2, found best); ``nearest``. B-spline and sinc
            overshoot at edges, so values may leave the range of ``moving``.
        outside: value where the moving image has nothing (see :func:`seen`).

    Voxels that are NaN or infinite stay where they are: the result is NaN where linear interpolation (``nearest``: the
    nearest voxel) would take one of them, with any interpolation, which sees the nearest finite value instead. A
    B-spline would spread one NaN over the whole image.

    Returns:
        float32 image on ``fixed_grid``.

    Raises:
        OptionError: there is no such interpolation.
    """
    import SimpleITK as sitk

    kinds = {
        "linear": sitk.sitkLinear,
        "bspline": sitk.sitkBSpline,
        "sinc": sitk.sitkWelchWindowedSinc,
        "nearest": sitk.sitkNearestNeighbor,
    }
    if interpolation not in kinds:
        raise OptionError(
            f"no interpolation {interpolation!r} for images; choose one of {', '.join(IMAGE_INTERPOLATIONS)}"
        )
    scalar, holes = _filled(sitk.Cast(moving, sitk.sitkFloat32))
    result = sitk.Resample(scalar, fixed_grid, transform.itk, kinds[interpolation], outside, sitk.sitkFloat32)
    if holes is None:
        return result
    kind = sitk.sitkNearestNeighbor if interpolation == "nearest" else sitk.sitkLinear
    share = sitk.Resample(holes, fixed_grid, transform.itk, kind, 0.0, sitk.sitkFloat32)
    voxels = sitk.GetArrayFromImage(result)
    voxels[sitk.GetArrayViewFromImage(share) > NOTHING_OF_A_HOLE] = np.nan
    holed = sitk.GetImageFromArray(voxels)
    holed.CopyInformation(result)
    return holed


def _filled(image: sitk.Image) -> tuple[sitk.Image, sitk.Image | None]:
    """An image whose voxels that are not finite have the value of the nearest one that is, and where they were."""
    import SimpleITK as sitk
    from scipy.ndimage import distance_transform_edt

    voxels = sitk.GetArrayViewFromImage(image)
    wrong = ~np.isfinite(voxels)
    if not wrong.any():
        return image, None
    values = np.zeros_like(voxels)
    if not wrong.all():
        nearest = distance_transform_edt(
            wrong, sampling=image.GetSpacing()[::-1], return_distances=False, return_indices=True
        )
        values = voxels[tuple(nearest)]
    filled, holes = sitk.GetImageFromArray(values), sitk.GetImageFromArray(wrong.astype(np.float32))
    for made in (filled, holes):
        made.CopyInformation(image)
    return filled, holes


def resample_labels(
    labels: sitk.Image,
    fixed_grid: sitk.Image,
    transform: Transform,
    interpolation: LabelInterpolation = "nearest",
) -> sitk.Image:
    """Carry a label map to another grid; every voxel gets a value of the map, or 0 where the map has nothing.

    Args:
        labels: integers, 3-D; any values, consecutive or not, negative ones too.
        fixed_grid: any image on the grid that is wanted; its voxels are not read.
        transform: fixed -> moving points.
        interpolation: ``nearest``, or ``gaussian``: the label whose voxels around the point weigh most under a
            Gaussian (ITK's ``LabelImageGaussianInterpolateImageFunction``; standard deviation 0.8 voxel), which
            gives smoother boundaries and takes two to ten times as long, by the number of labels.

    Returns:
        Image of the type of ``labels`` on ``fixed_grid``.

    Raises:
        OptionError: there is no such interpolation.
        LabelError: the label map does not hold integers.
    """
    import SimpleITK as sitk

    _check_integers(labels)
    kinds = {"nearest": sitk.sitkNearestNeighbor, "gaussian": sitk.sitkLabelGaussian}
    if interpolation not in kinds:
        raise OptionError(
            f"no interpolation {interpolation!r} for label maps; choose one of {', '.join(LABEL_INTERPOLATIONS)}"
        )
    return sitk.Resample(labels, fixed_grid, transform.itk, kinds[interpolation], 0)


def seen(moving: sitk.Image, fixed_grid: sitk.Image, transform: Transform) -> sitk.Image:
    """Mask of the voxels of a grid that the moving image covers.

    A voxel is a box, so points up to half a voxel beyond the outermost voxel centres count as covered; this is
    also where ITK's interpolators give values.

    Returns:
        uint8 image on ``fixed_grid``: 1 covered, 0 not.
    """
    import SimpleITK as sitk

    ones = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(moving)
    return sitk.Resample(ones, fixed_grid, transform.itk, sitk.sitkNearestNeighbor, 0)


def resample_memberships(
    labels: sitk.Image,
    fixed_grid: sitk.Image,
    transform: Transform,
    values: Sequence[int] | None = None,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Linear interpolation of each label's indicator image, all labels in one pass.

    The same as ``resample_image(labels == value, ...)`` for each value, but the time does not grow with their
    number. Where the label map has nothing (see :func:`seen`), all memberships are 0; elsewhere they sum to 1
    if ``values`` names all labels of the map.

    Args:
        labels: integers, 3-D.
        fixed_grid: any image on the grid that is wanted; its voxels are not read.
        transform: fixed -> moving points.
        values: the labels wanted, in this order; by default those in the map, ascending.
        out: ``(K, x, y, z)`` float32 to which the memberships are added (votes of several atlases, without a
            copy for each); by default a new array of zeros.

    Returns:
        ``(K, x, y, z)`` float32.

    Raises:
        LabelError: the label map does not hold integers, or a value is asked for twice.
        GeometryError: ``out`` has another shape or type.
    """
    _check_integers(labels)
    voxels, affine = from_itk(labels)
    present, indices = np.unique(voxels, return_inverse=True)
    wanted = [int(value) for value in present] if values is None else [int(value) for value in values]
    if len(set(wanted)) != len(wanted):
        raise LabelError(f"each label can be asked for once, found {wanted}")
    shape = fixed_grid.GetSize()
    if out is None:
        out = np.zeros((len(wanted), *shape), np.float32)
    if out.shape != (len(wanted), *shape) or out.dtype != np.float32:
        raise GeometryError(
            f"out must be float32 {(len(wanted), *shape)}, found {out.dtype} {out.shape}: one volume for each label"
        )
    # one channel more, for labels that are not wanted
    channels = np.array(
        [wanted.index(int(value)) if int(value) in wanted else len(wanted) for value in present], np.intp
    )[indices].reshape(voxels.shape)
    for x in range(shape[0]):
        slab = fixed_grid[x : x + 1, :, :]
        points = _continuous_indices(slab, transform, affine)
        votes = _memberships_at(channels, points, len(wanted) + 1)
        out[:, x] += votes[:-1].reshape(len(wanted), *shape[1:])
    return out


def _continuous_indices(
    grid: sitk.Image, transform: Transform, moving_affine: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Where the voxels of a grid lie in the moving image: ``(n, 3)`` voxel indices, not whole, C order."""
    import SimpleITK as sitk

    shifts = flip_points(sitk.GetArrayFromImage(field_image(transform, grid)).transpose(2, 1, 0, 3))
    indices = np.moveaxis(np.indices(grid.GetSize(), dtype=np.float64), 0, -1)
    affine = affine_of(grid)
    points = indices @ affine[:3, :3].T + affine[:3, 3] + shifts
    inverse = np.linalg.inv(moving_affine)
    result: npt.NDArray[np.float64] = (points @ inverse[:3, :3].T + inverse[:3, 3]).reshape(-1, 3)
    return result


def _memberships_at(
    channels: npt.NDArray[np.intp], points: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.float32]:
    """Trilinear memberships ``(count, n)`` of channel indices ``(x, y, z)`` at points ``(n, 3)``, in voxels."""
    shape = np.array(channels.shape)
    inside = np.flatnonzero(((points >= -0.5) & (points < shape - 0.5)).all(axis=1))
    clamped = np.clip(points[inside], 0, shape - 1)
    low = np.minimum(clamped.astype(np.intp), np.maximum(shape - 2, 0))
    share = clamped - low
    votes = np.zeros((count, len(points)), np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, share, 1 - share), axis=1)
        at = np.minimum(low + corner, shape - 1)
        # each point occurs once for each corner, so this adds without losing any
        votes[channels[tuple(at.T)], inside] += weight.astype(np.float32)
    return votes


def _check_integers(labels: Any) -> None:
    """Refuse images whose voxels are no label values."""
    if labels.GetNumberOfComponentsPerPixel() != 1 or "float" in labels.GetPixelIDTypeAsString():
        raise LabelError(
            f"a label map must hold one integer per voxel, found {labels.GetPixelIDTypeAsString()}: "
            "cast it if its values are whole numbers"
        )
