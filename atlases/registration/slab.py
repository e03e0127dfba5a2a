"""Slabs: volumes of a few slices, and those that hold a part of what the other image holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atlaseg.atlases.registration.presets import FEWEST_SLICES

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["continued", "is_part_of"]

#: A volume is a part of another one if it is thinner than this share of it.
_PART = 0.5


def continued(image: sitk.Image, mask: sitk.Image | None) -> tuple[sitk.Image, sitk.Image | None]:
    """A slab continued by its edge voxels, and a mask that leaves these out; other images as they are.

    Pyramids need some depth. But what continues a slab was never seen: if it counted, the registration would go to
    where the other image is even. Places in space are kept.

    Args:
        image: scalar, 3-D.
        mask: uint8 on the grid of ``image``, 1 where the metric counts, or ``None``.
    """
    import SimpleITK as sitk

    if min(image.GetSize()) >= FEWEST_SLICES:
        return image, mask
    missing = [max(0, FEWEST_SLICES - n) for n in image.GetSize()]
    lower, upper = [m // 2 for m in missing], [m - m // 2 for m in missing]
    if mask is None:
        mask = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
        mask.CopyInformation(image)
    return sitk.ZeroFluxNeumannPad(image, lower, upper), sitk.ConstantPad(mask, lower, upper, 0)


def is_part_of(image: sitk.Image, other: sitk.Image) -> bool:
    """Whether an image covers less than half of what another one covers along some axis, and the other not of it.

    Lengths are compared from the shortest to the longest, independent of the order of the axes.
    """
    own, others = (np.sort(np.multiply(i.GetSize(), i.GetSpacing())) for i in (image, other))
    return bool((own < _PART * others).any() and not (others < _PART * own).any())
