"""Initialise a registration: the coarse alignment that every engine then refines."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.slab import is_part_of
from atlaseg.atlases.registration.transforms.frames import affine_of, from_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError, OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["INITIALISATIONS", "Initialisation", "check_start", "initial_transform"]

Initialisation = Literal["auto", "identity", "centres", "centres-of-mass", "moments"]
INITIALISATIONS: tuple[str, ...] = get_args(Initialisation)

#: Voxels along the longest axis of the coarse grid on which beginnings are compared.
_COARSE = 24
#: Bins of the joint histogram; few, because a coarse grid has few voxels.
_BINS = 16
#: Beginnings that leave less of the fixed image covered than this are not considered by ``auto``.
_LEAST_COVERAGE = 0.25
#: A start that shrinks one direction by this factor beside another has no use: it carries space into a plane.
_SINGULAR = 1e-6


def check_start(start: Transform) -> None:
    """Refuse a transform from which no registration can begin.

    Raises:
        GeometryError: it is linear, and its matrix is not finite or (nearly) singular.
    """
    if not start.is_linear:
        return
    matrix = start.matrix
    stretches = np.linalg.svd(matrix[:3, :3], compute_uv=False) if np.isfinite(matrix).all() else np.zeros(3)
    if not stretches.min() > _SINGULAR * stretches.max():
        raise GeometryError(
            "the initial transform has no inverse (it carries space into a plane or is not finite), so registration "
            "cannot begin there; give another file, or auto"
        )


def initial_transform(
    fixed: sitk.Image,
    moving: sitk.Image,
    how: str = "auto",
    *,
    fixed_mask: sitk.Image | None = None,
    moving_mask: sitk.Image | None = None,
) -> Transform:
    """Fixed -> moving points, before any optimisation.

    Args:
        fixed: the image that stays.
        moving: the image that is carried to it.
        how: ``identity`` (trust the scanner's coordinates), ``centres`` (of the volumes), ``centres-of-mass`` (of
            the intensities above each image's minimum, inside its mask), ``moments`` (centres and principal axes),
            or ``auto``: of the first three the one with the highest normalised mutual information on a coarse
            grid. (Principal axes turn near-symmetric heads upside down, so they must be asked for.)
        fixed_mask: uint8 on the grid of ``fixed``, or ``None``.
        moving_mask: uint8 on the grid of ``moving``, or ``None``.

    Raises:
        OptionError: there is no such beginning.
        GeometryError: ``identity`` is asked for, and the images do not overlap.
    """
    if how not in INITIALISATIONS:
        raise OptionError(f"no initialisation {how!r}; choose one of {', '.join(INITIALISATIONS)}")
    if how == "identity":
        begin = Transform.identity()
        if _coverage(fixed, moving, begin) == 0:
            raise GeometryError(
                "the images do not overlap in space, so registration cannot begin at the identity; choose the "
                "initialisation centres or centres-of-mass"
            )
        return begin
    if how == "centres":
        return _shift(_centre(fixed), _centre(moving))
    if how == "centres-of-mass":
        return _shift(_moments(fixed, fixed_mask)[0], _moments(moving, moving_mask)[0])
    if how == "moments":
        return _principal_axes(fixed, moving, fixed_mask, moving_mask)
    # overlap and likeness are looked at in the smaller image: a slab covers little of a whole scan wherever it lies
    of = _agreement_backwards if is_part_of(moving, fixed) else _agreement
    candidates = [
        Transform.identity(),
        _shift(_centre(fixed), _centre(moving)),
        _shift(_moments(fixed, fixed_mask)[0], _moments(moving, moving_mask)[0]),
    ]
    return max(candidates, key=lambda begin: of(fixed, moving, begin))


def _shift(fixed_point: npt.NDArray[np.float64], moving_point: npt.NDArray[np.float64]) -> Transform:
    matrix = np.eye(4)
    matrix[:3, 3] = moving_point - fixed_point
    return Transform.from_matrix(matrix)


def _centre(image: sitk.Image) -> npt.NDArray[np.float64]:
    """Centre of the volume, RAS+ mm."""
    middle = (np.array(image.GetSize()) - 1) / 2
    affine = affine_of(image)
    centre: npt.NDArray[np.float64] = affine[:3, :3] @ middle + affine[:3, 3]
    return centre


def _moments(
    image: sitk.Image, mask: sitk.Image | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centre of mass (RAS+ mm) and covariance (mm^2) of the intensities above the minimum."""
    voxels, affine = from_itk(image)
    weights = (voxels - voxels.min()).astype(np.float64)
    if mask is not None:
        weights *= from_itk(mask)[0] != 0
    total = weights.sum()
    if total <= 0:
        return _centre(image), np.eye(3)
    # Separable sums over the axes need no coordinate for every voxel.
    marginals = [weights.sum(axis=tuple(b for b in range(3) if b != a)) for a in range(3)]
    mean = np.array([(m * np.arange(len(m))).sum() / total for m in marginals])
    covariance = np.empty((3, 3))
    for a, b in itertools.product(range(3), repeat=2):
        pair = weights.sum(axis=3 - a - b) if a != b else np.diag(marginals[a])
        pair = pair if a <= b else pair.T
        first = np.arange(weights.shape[a]) - mean[a]
        second = np.arange(weights.shape[b]) - mean[b]
        covariance[a, b] = first @ pair @ second / total
    linear = affine[:3, :3]
    return linear @ mean + affine[:3, 3], linear @ covariance @ linear.T


def _principal_axes(
    fixed: sitk.Image, moving: sitk.Image, fixed_mask: sitk.Image | None, moving_mask: sitk.Image | None
) -> Transform:
    """Principal axes onto each other; of the four proper rotations the one that agrees best."""
    (f_centre, f_cov), (m_centre, m_cov) = _moments(fixed, fixed_mask), _moments(moving, moving_mask)
    f_axes, m_axes = np.linalg.eigh(f_cov)[1], np.linalg.eigh(m_cov)[1]
    f_axes, m_axes = f_axes * np.linalg.det(f_axes), m_axes * np.linalg.det(m_axes)
    candidates = []
    for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        matrix = np.eye(4)
        matrix[:3, :3] = m_axes @ np.diag(signs) @ f_axes.T
        matrix[:3, 3] = m_centre - matrix[:3, :3] @ f_centre
        candidates.append(Transform.from_matrix(matrix))
    return max(candidates, key=lambda begin: _agreement(fixed, moving, begin))


def _coarse_grid(image: sitk.Image) -> sitk.Image:
    import SimpleITK as sitk

    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    extent = size * spacing
    step = np.maximum(extent.max() / _COARSE, spacing)
    count = np.maximum(np.floor(extent / step), 1).astype(int)
    grid = sitk.Image(count.tolist(), sitk.sitkFloat32)
    grid.SetSpacing(step.tolist())
    grid.SetDirection(image.GetDirection())
    first = ((extent - (count - 1) * step) / 2 - spacing / 2) / spacing
    grid.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(first.tolist()))
    return grid


def _onto(
    image: sitk.Image, grid: sitk.Image, transform: Transform, outside: float
) -> npt.NDArray[np.float64]:
    """Values on a coarse grid; the image is smoothed before, so that fine texture does not alias."""
    import SimpleITK as sitk

    sigma = [0.5 * g if n >= 4 else 0.0 for g, n in zip(grid.GetSpacing(), image.GetSize(), strict=True)]
    smooth = sitk.SmoothingRecursiveGaussian(image, sigma) if all(sigma) else image
    result = sitk.Resample(smooth, grid, transform.itk, sitk.sitkLinear, outside, sitk.sitkFloat64)
    return np.asarray(sitk.GetArrayFromImage(result)).ravel()


def _coverage(fixed: sitk.Image, moving: sitk.Image, begin: Transform) -> float:
    """Share of the fixed volume that the moving volume covers."""
    import SimpleITK as sitk

    ones = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(moving)
    covered = sitk.Resample(ones, _coarse_grid(fixed), begin.itk, sitk.sitkNearestNeighbor, 0)
    return float(np.mean(sitk.GetArrayViewFromImage(covered)))


def _agreement(fixed: sitk.Image, moving: sitk.Image, begin: Transform) -> float:
    """Normalised mutual information (Studholme 1999, doi:10.1016/S0031-3203(98)00091-0) where both have voxels."""
    grid = _coarse_grid(fixed)
    a = _onto(fixed, grid, Transform.identity(), np.nan)
    b = _onto(moving, grid, begin, np.nan)
    both = np.isfinite(a) & np.isfinite(b)
    if both.mean() < _LEAST_COVERAGE:
        return -1.0 + float(both.mean())
    joint = np.histogram2d(a[both], b[both], bins=_BINS)[0] / both.sum()
    fine, left, right = (_entropy(p) for p in (joint, joint.sum(axis=1), joint.sum(axis=0)))
    return (left + right) / fine if fine > 0 else 0.0


def _agreement_backwards(fixed: sitk.Image, moving: sitk.Image, begin: Transform) -> float:
    """The same on a coarse grid of the moving image."""
    return _agreement(moving, fixed, begin.linear_inverse())


def _entropy(p: npt.NDArray[np.float64]) -> float:
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())
