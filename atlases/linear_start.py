"""Where the bending of an atlas begins: rigid, or affine where an affine mapping is to be believed.

An unconstrained affine registration of a small crop may squeeze it into a plane; a rigid one of a whole head leaves
differences of size to the stages that bend. Neither is right for all pairs, so both are made and the pair decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlases.quality import local_correlation, region_of_interest
from atlases.registration.engine import RegistrationError
from atlases.registration.frames import from_itk
from atlases.registration.resampling import resample_image, resample_labels
from atlases.registration.transform import Transform

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["LARGEST_STRETCH", "LINEAR_STARTS", "LinearStart", "linear_start", "stretch"]

LINEAR_STARTS: tuple[str, ...] = get_args(Literal["auto", "rigid", "affine"])

#: An affine mapping may stretch any direction by this factor, or shrink it by its inverse, beside the rigid one.
#: On the pairs of 10 hippocampi (docs/benchmarks.md), 1.35 and no bound at all chose the same; 1.25 cost 0.002 Dice.
LARGEST_STRETCH = 1.35


@dataclass(frozen=True, eq=False)
class LinearStart:
    """A linear mapping, and why it is this one.

    Args:
        transform: fixed -> moving points.
        kind: ``rigid`` or ``affine``.
        stretch: of the affine mapping beside the rigid one (:func:`stretch`); ``None`` where there was none.
        gain: by which the affine mapping raised the local correlation; ``None`` where nobody asked.
    """

    transform: Transform
    kind: str
    stretch: float | None = None
    gain: float | None = None


def stretch(rigid: Transform, affine: Transform) -> float:
    """Largest factor by which an affine mapping stretches or shrinks any direction beside a rigid one; at least 1.

    >>> stretch(Transform.identity(), Transform.from_matrix(np.diag([0.5, 1, 1.2, 1])))
    2.0
    """
    between = affine.matrix[:3, :3] @ np.linalg.inv(rigid.matrix[:3, :3])
    values = np.linalg.svd(between, compute_uv=False)
    return float(max(values.max(), 1 / max(values.min(), np.finfo(float).tiny)))


def linear_start(
    fixed: sitk.Image,
    moving: sitk.Image,
    labels: sitk.Image,
    run: Callable[[Literal["rigid", "affine"], Transform | None], Transform],
    how: str = "auto",
) -> LinearStart:
    """Rigid registration, then affine from it; the affine one is kept where it is plausible.

    Args:
        fixed: the scan, rescaled as for registration.
        moving: the atlas' image, rescaled.
        labels: of the atlas, integers, 0 where there is no structure; their surroundings decide.
        run: registers with one stage, beginning at a transform or, ``None``, wherever it likes.
        how: ``rigid`` and ``affine`` keep that one whatever comes; ``auto`` keeps the affine mapping where it
            stretches no direction by more than ``LARGEST_STRETCH`` and raises the mean local correlation of scan
            and atlas around the structures, as either mapping places them.

    Raises:
        RegistrationError: the engine gave up; of the affine stage only where ``how`` insists on it.
    """
    rigid = run("rigid", None)
    if how == "rigid":
        return LinearStart(rigid, "rigid")
    try:
        affine = run("affine", rigid)
    except RegistrationError:
        if how == "affine":
            raise
        return LinearStart(rigid, "rigid")
    stretched = stretch(rigid, affine)
    if how == "affine":
        return LinearStart(affine, "affine", stretched)
    gain = _gain(fixed, moving, labels, (rigid, affine))
    if gain > 0 and stretched <= LARGEST_STRETCH:
        return LinearStart(affine, "affine", stretched, gain)
    return LinearStart(rigid, "rigid", stretched, gain)


def _gain(
    fixed: sitk.Image, moving: sitk.Image, labels: sitk.Image, transforms: tuple[Transform, Transform]
) -> float:
    """What the second mapping adds to the local correlation that the first one reaches."""
    placed = np.stack([from_itk(resample_labels(labels, fixed, t))[0] for t in transforms])
    # where no structure lands on the scan, all of it is compared
    region = region_of_interest(placed) if placed.any() else None
    scan = from_itk(fixed)[0]
    before, after = (
        _likeness(scan, from_itk(resample_image(moving, fixed, t))[0], region) for t in transforms
    )
    return after - before


def _likeness(
    scan: npt.NDArray[np.float32], warped: npt.NDArray[np.float32], region: npt.NDArray[np.bool_] | None
) -> float:
    if float(warped.min()) == float(warped.max()):
        return -1.0  # an atlas that was carried off the scan
    return local_correlation(scan, warped, region)
