"""Select atlases for a scan: rank them by similarity after rigid or affine alignment, before the full registration.

Aljabar et al., NeuroImage 46:726-738 (2009), doi:10.1016/j.neuroimage.2009.02.018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.propagation.quality import region_of_interest
from atlaseg.atlases.propagation.similarity import correlation, local_correlation, mutual_information
from atlaseg.atlases.registration.stage import METRICS
from atlaseg.pipeline.errors import GeometryError, LabelError, OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["rank", "select", "similarities", "spread"]

Item = TypeVar("Item")

#: Least that each metric can be; no number is small enough for a squared difference but the type's own.
_WORST = {"ncc": -1.0, "lncc": -1.0, "mi": 1.0, "ssd": -float(np.finfo(np.float64).max)}


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``count`` items, evenly spread and in their order: the middle of each of ``count`` equal parts.

    First and last, which are often of one scanner, have no more weight than others.

    >>> spread("abcdefgh", 2)
    ['c', 'g']
    >>> spread("abc", 5)
    ['a', 'b', 'c']
    """
    number = min(len(items), most)
    return [items[(2 * n + 1) * len(items) // (2 * number)] for n in range(number)]


def rank(similarities: Sequence[float] | npt.NDArray[np.float64], k: int | None = None) -> list[int]:
    """Indices of the most similar, best first; ties keep their order.

    Args:
        similarities: one for each atlas, more is better.
        k: how many to return; ``None`` or more than there are: all.

    Raises:
        OptionError: there is none, one is not finite, or ``k`` is less than 1.

    >>> rank([0.2, 0.9, 0.5])
    [1, 2, 0]
    """
    values = np.asarray(similarities, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise OptionError(f"ranking needs one finite similarity for each atlas, found {values.tolist()}")
    if k is not None and k < 1:
        raise OptionError(f"keep at least 1 atlas, found {k}; or leave the option out to keep all")
    return [int(n) for n in np.argsort(-values, kind="stable")][:k]


def similarities(
    target: npt.NDArray[Any],
    warped: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
    metric: str = "ncc",
    region: npt.NDArray[np.bool_] | None = None,
) -> list[float]:
    """Similarity of each warped atlas image and the scan; more is better.

    Args:
        target: ``(*spatial)``, intensities rescaled as for registration.
        warped: ``N`` images on its grid.
        metric: ``ncc`` (correlation over the region), ``lncc`` (in a window around each voxel), ``mi`` (normalised
            mutual information), ``ssd`` (mean squared difference, with a minus; intensities must share a scale).
        region: where they are compared, ``(*spatial)``; ``None``: everywhere.

    Raises:
        OptionError: there is no such metric.
        GeometryError: images lie on different grids.
        DatasetError: the target is constant, an image is not finite, or the region is empty.
    """
    if metric not in METRICS:
        raise OptionError(f"no metric {metric!r}; choose one of {', '.join(METRICS)}")
    return [_similarity(target, image, metric, region) for image in warped]


def _similarity(
    target: npt.NDArray[Any], image: npt.NDArray[Any], metric: str, region: npt.NDArray[np.bool_] | None
) -> float:
    if image.shape == target.shape and float(image.min()) == float(image.max()):
        # an atlas that the alignment carried off the scan is the last choice, not an error
        correlation(target, target, region)
        return _WORST[metric]
    if metric == "ssd":
        correlation(target, image, region)  # for its checks
        inside = np.ones(target.shape, dtype=bool) if region is None else region.astype(bool)
        return -float(np.mean((target[inside] - image[inside].astype(np.float64)) ** 2))
    measure = {"ncc": correlation, "lncc": local_correlation, "mi": mutual_information}[metric]
    return measure(target, image, region)


def select(
    target: sitk.Image,
    warped: Sequence[sitk.Image],
    *,
    metric: str = "ncc",
    k: int | None = None,
    labels: Sequence[sitk.Image] | None = None,
    mask: sitk.Image | None = None,
) -> list[tuple[int, float]]:
    """The atlases most similar to a scan, as ``(index, similarity)``, best first.

    Images are compared inside the scan's mask, else around all structures of the atlases (the union of their
    warped labels, dilated), else everywhere.

    Args:
        target: the scan, intensities rescaled as for registration.
        warped: images of the atlases, rigidly or affinely aligned and resampled onto the scan's grid.
        metric: as in :func:`similarities`.
        k: how many to keep, ``None`` for all.
        labels: warped label maps of the atlases, integer channel indices, on the scan's grid.
        mask: of the scan, not 0 inside.

    Raises:
        OptionError: no atlas, no such metric, or ``k`` less than 1.
        GeometryError: an image lies on another grid, or is not 3-D.
        LabelError: labels are not integers, or no structure lies on the scan.
        DatasetError: the scan is constant, or its mask is empty.
    """
    for name, images in (("warped image", warped), ("warped label map", labels or ()), ("mask", [mask])):
        for image in images:
            if image is not None:
                _same_grid(target, image, name)
    region = None
    if mask is not None:
        region = _array(mask) != 0
    elif labels is not None:
        if len(labels) != len(warped):
            raise OptionError(f"{len(warped)} warped images but {len(labels)} label maps: give one each")
        region = _surroundings(labels)
    found = similarities(_array(target), [_array(image) for image in warped], metric, region)
    return [(n, found[n]) for n in rank(found, k)]


def _surroundings(labels: Sequence[sitk.Image]) -> npt.NDArray[np.bool_]:
    arrays = [_array(image) for image in labels]
    if wrong := [str(array.dtype) for array in arrays if array.dtype.kind not in "iu"]:
        raise LabelError(f"warped labels must be integers (channel indices), found {wrong[0]}")
    return region_of_interest(np.stack(arrays))


def _array(image: sitk.Image) -> npt.NDArray[Any]:
    from atlaseg.atlases.registration.transforms.frames import from_itk

    return from_itk(image)[0]


def _same_grid(target: sitk.Image, image: sitk.Image, name: str) -> None:
    from atlaseg.atlases.registration.transforms.frames import affine_of
    from atlaseg.pipeline.io.volume import GRID_TOLERANCE_VOXELS, corner_distance

    if target.GetDimension() != 3 or image.GetDimension() != 3:
        found = min(target.GetDimension(), image.GetDimension())
        raise GeometryError(f"{name}: selection works on 3-D volumes, found {found}-D")
    if image.GetSize() != target.GetSize():
        raise GeometryError(
            f"{name} has {image.GetSize()} voxels, the scan {target.GetSize()}: resample it onto the scan"
        )
    distance = corner_distance(affine_of(image), affine_of(target), target.GetSize())
    if distance > GRID_TOLERANCE_VOXELS * min(target.GetSpacing()):
        raise GeometryError(
            f"{name} lies up to {distance:.3g} mm off the scan's grid: resample it onto the scan"
        )
