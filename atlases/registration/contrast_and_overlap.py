"""When an engine refuses a pair of images: no contrast, no overlap, or a result that is no transform.

Whether a transform that was found is a good one is judged later, beside those of other atlases:
:mod:`atlaseg.atlases.propagation.failed_registrations`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.engine import Problem, RegistrationError
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.registration.transforms.transform import Transform

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["require_contrast", "require_overlap"]

#: Points along each axis of the fixed image at which a transform is looked at.
_PROBES = 7


def require_contrast(engine: str, problem: Problem) -> None:
    """Refuse constant images: every position gives the same metric.

    Raises:
        RegistrationError: an image is constant or has values that are not finite.
    """
    import SimpleITK as sitk

    for role, image in (("fixed", problem.fixed), ("moving", problem.moving)):
        voxels = sitk.GetArrayViewFromImage(image)
        low, high = float(voxels.min()), float(voxels.max())
        if not low < high or not np.isfinite((low, high)).all():
            raise RegistrationError(
                f"{engine}: the {role} image has no contrast to go by (values from {low:g} to {high:g})"
            )


def require_overlap(engine: str, problem: Problem, transform: Transform, when: str) -> None:
    """Refuse a transform that is not finite, or that carries nothing of the fixed image into the moving one.

    Args:
        engine: name, for the message.
        problem: the pair.
        transform: fixed -> moving points.
        when: what the transform is, for the message: ``"the initial transform"``, ``"the result"``.

    Raises:
        RegistrationError: it is one of these.
    """
    reached = transform.points(_probes(problem.fixed))
    if not np.isfinite(reached).all():
        raise RegistrationError(f"{engine}: {when} is not finite; try another initialisation or metric")
    to_voxels = np.linalg.inv(affine_of(problem.moving))
    voxels = reached @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    inside = (voxels > -0.5) & (voxels < np.array(problem.moving.GetSize()) - 0.5)
    if not inside.all(axis=1).any():
        raise RegistrationError(
            f"{engine}: {when} carries nothing of the fixed image into the moving image; try another initialisation"
        )


def _probes(image: sitk.Image) -> npt.NDArray[np.float64]:
    """``(n, 3)`` points spread over an image, RAS+ mm."""
    axes = [np.linspace(0, n - 1, _PROBES) for n in image.GetSize()]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    affine = affine_of(image)
    points: npt.NDArray[np.float64] = voxels @ affine[:3, :3].T + affine[:3, 3]
    return points
