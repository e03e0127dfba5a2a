"""Where the deformable stage of an atlas begins: rigid, or affine where an affine mapping is to be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlases.quality import local_correlation
from atlases.registration.frames import from_itk
from atlases.registration.register import register
from atlases.registration.resampling import resample_image, seen
from atlases.registration.stage import Stage
from atlases.registration.transform import Transform

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["LINEAR_STARTS", "LinearStart", "linear_start", "stretch"]

LinearStart = Literal["auto", "rigid", "affine"]
LINEAR_STARTS: tuple[str, ...] = get_args(LinearStart)

#: An affine mapping may stretch any direction by this factor, or shrink it by its inverse, beside the rigid one.
LARGEST_STRETCH = 1.35


def stretch(rigid: Transform, affine: Transform) -> float:
    """Largest factor by which an affine mapping stretches or shrinks any direction beside a rigid one; at least 1.

    >>> stretch(Transform.identity(), Transform.from_matrix(np.diag([0.5, 1, 1.2, 1])))
    2.0
    """
    between = affine.matrix[:3, :3] @ np.linalg.inv(rigid.matrix[:3, :3])
    values = np.linalg.svd(between, compute_uv=False)
    return float(max(values.max(), 1 / values.min()))


def linear_start(
    fixed: sitk.Image,
    moving: sitk.Image,
    how: str = "auto",
    *,
    engine: str = "elastix",
    fixed_mask: sitk.Image | None = None,
    initial: str = "auto",
    same_modality: bool = True,
    seed: int = 0,
    threads: int = 1,
) -> Transform:
    """Rigid registration, then affine from it; the affine one is kept where it is plausible.

    Args:
        fixed: the scan.
        moving: the atlas' image.
        how: ``rigid`` and ``affine`` keep that one whatever comes; ``auto`` keeps the affine mapping where it
            stretches no direction by more than ``LARGEST_STRETCH`` and raises the local correlation of the images
            where both have seen the scan's grid.
        engine: name.
        fixed_mask: where the metric counts.
        initial: where the rigid registration begins.
        same_modality: decides the metric.
        seed: of everything random.
        threads: at most so many.

    Raises:
        RegistrationError, GeometryError, DatasetError, OptionError: as :func:`register`.
    """

    def run(kind: Literal["rigid", "affine"], start: str | Transform) -> Transform:
        return register(
            fixed,
            moving,
            (Stage(kind),),
            engine=engine,
            fixed_mask=fixed_mask,
            initial=start,
            same_modality=same_modality,
            seed=seed,
            threads=threads,
        ).transform

    rigid = run("rigid", initial)
    if how == "rigid":
        return rigid
    affine = run("affine", rigid)
    if how == "affine" or _believable(fixed, moving, rigid, affine, fixed_mask):
        return affine
    return rigid


@dataclass(frozen=True)
class _Pair:
    fixed: npt.NDArray[np.float32]
    moving: sitk.Image


def _believable(
    fixed: sitk.Image, moving: sitk.Image, rigid: Transform, affine: Transform, mask: sitk.Image | None
) -> bool:
    if stretch(rigid, affine) > LARGEST_STRETCH:
        return False
    region = from_itk(seen(moving, fixed, rigid))[0] & from_itk(seen(moving, fixed, affine))[0]
    if mask is not None:
        region &= from_itk(mask)[0] != 0
    if not region.any():
        return False
    scan = from_itk(fixed)[0]
    before, after = (
        local_correlation(scan, from_itk(resample_image(moving, fixed, transform))[0], region.astype(bool))
        for transform in (rigid, affine)
    )
    return after > before
