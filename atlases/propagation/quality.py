"""Quality of an atlas registration, by measures that need no labels of the scan.

Which atlases they make fail is decided in :mod:`atlaseg.atlases.propagation.failed_registrations`.
Arrays of one registration lie on the grid of the scan (the fixed image).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.propagation.similarity import (
    check_region,
    correlation,
    local_correlation,
    mutual_information,
)
from atlaseg.pipeline.errors import DatasetError, GeometryError, LabelError, OptionError

if TYPE_CHECKING:
    from atlaseg.atlases.registration.transforms.jacobian import JacobianStatistics

__all__ = ["Quality", "agreement", "assess", "coverage", "mask_overlap", "region_of_interest"]

Bools = npt.NDArray[np.bool_]

#: Voxels around the atlases' structures that count as their surroundings.
MARGIN = 3


@dataclass(frozen=True)
class Quality:
    """Measures that detect a failed registration; more is better, except for folding and Jacobian spread.

    Args:
        agreement: median Dice, mean over the structures, of this atlas' warped labels and those of each other
            atlas; 0 to 1. ``None`` where there is no other.
        local_correlation: mean correlation of scan and warped image in windows around the structures; -1 to 1.
        correlation: their correlation over the same region; -1 to 1.
        mutual_information: Studholme's normalised mutual information there; 1 (none) to 2.
        coverage: share of the scan's grid that the atlas has seen; 0 to 1.
        mask_overlap: Dice of the atlas' warped mask and the scan's, ``None`` without both.
        folding: share of voxels with a Jacobian determinant of at most 0.
        log_jacobian_mean: of the log of the Jacobian determinant: 0 keeps the volume; as its spread ``None`` where
            the determinant is nowhere positive.
        log_jacobian_sd: its spread: 0 for an affine mapping.
    """

    agreement: float | None
    local_correlation: float
    correlation: float
    mutual_information: float
    coverage: float
    mask_overlap: float | None = None
    folding: float | None = None
    log_jacobian_mean: float | None = None
    log_jacobian_sd: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not np.isfinite(value):
                raise OptionError(f"quality figure {field.name} must be a finite number, found {value}")


def region_of_interest(labels: npt.NDArray[Any], margin: int = MARGIN) -> Bools:
    """Region in which quality is measured: structures of any atlas, and a margin around them.

    Args:
        labels: ``(N, *spatial)`` channel indices, warped.
        margin: voxels to add all around (along the axes: a cross grows into an octahedron).

    Raises:
        LabelError: labels are not integers, or no atlas has a structure on the grid.
    """
    from scipy.ndimage import binary_dilation

    _check_labels(labels)
    union = (labels != 0).any(axis=0)
    if not union.any():
        raise LabelError("no structure of any atlas lies on the scan; do the atlases overlap with it?")
    return np.asarray(binary_dilation(union, iterations=margin)) if margin else np.asarray(union)


def _check_labels(labels: npt.NDArray[Any]) -> None:
    if labels.dtype.kind not in "iu":
        raise LabelError(f"warped labels must be integers (channel indices), found {labels.dtype}")
    if labels.ndim != 4 or not labels.size:
        raise GeometryError(f"warped labels must be (atlases, x, y, z), found shape {labels.shape}")


def agreement(labels: npt.NDArray[Any], classes: int) -> npt.NDArray[np.float64]:
    """Dice of every two atlases' warped labels, mean over the structures that either has.

    Args:
        labels: ``(N, *spatial)`` channel indices below ``classes``.
        classes: ``K``, the background included.

    Returns:
        ``(N, N)`` symmetric, 1 on the diagonal.

    Raises:
        LabelError: labels are not integers, or not below ``classes``.
        GeometryError: not ``(N, *spatial)``.
    """
    _check_labels(labels)
    if labels.min() < 0 or labels.max() >= classes:
        raise LabelError(f"warped labels must be 0 to {classes - 1}, found {labels.min()} to {labels.max()}")
    flat = labels.reshape(len(labels), -1)
    flat = flat[:, flat.any(axis=0)]
    sizes = np.stack([np.bincount(row, minlength=classes) for row in flat])[:, 1:]
    found = np.eye(len(flat))
    for i in range(len(flat)):
        for j in range(i):
            both = np.bincount(flat[i][flat[i] == flat[j]], minlength=classes)[1:]
            total = sizes[i] + sizes[j]
            present = total > 0
            dice = (2 * both[present] / total[present]).mean() if present.any() else 1.0
            found[i, j] = found[j, i] = dice
    return found


def coverage(inside: Bools, region: Bools | None = None) -> float:
    """Share of the scan's grid, or of a region of it, that the warped atlas covers; 0 where they do not overlap.

    Raises:
        GeometryError: shapes differ.
        DatasetError: the region is empty.
    """
    if region is None:
        return float(np.mean(inside))
    if region.shape != inside.shape:
        raise GeometryError(f"region has shape {region.shape}, the grid {inside.shape}")
    if not region.any():
        raise DatasetError("the region to compare in is empty; give a mask with at least one voxel")
    return float(np.mean(inside[region.astype(bool)]))


def mask_overlap(warped: npt.NDArray[Any], mask: npt.NDArray[Any]) -> float:
    """Dice of an atlas' warped mask and the scan's.

    Raises:
        GeometryError: the masks lie on different grids.
        DatasetError: the scan's mask is empty.
    """
    if warped.shape != mask.shape:
        raise GeometryError(f"warped mask has shape {warped.shape}, the scan's {mask.shape}: not on one grid")
    a, b = warped.astype(bool), mask.astype(bool)
    if not b.any():
        raise DatasetError("the scan's mask is empty; draw it, or go without")
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def assess(
    candidates: Candidates,
    *,
    jacobians: Sequence[JacobianStatistics] | None = None,
    masks: npt.NDArray[Any] | None = None,
    target_mask: npt.NDArray[Any] | None = None,
    channel: int = 0,
) -> list[Quality]:
    """Quality of every atlas that was registered to a scan, in the order of the candidates.

    Correlations are taken around the atlas' own warped structures: of all regions tried, the most telling.

    Args:
        candidates: with images and target.
        jacobians: of the transform of each atlas.
        masks: ``(N, *spatial)`` warped masks of the atlases.
        target_mask: ``(*spatial)`` mask of the scan.
        channel: to compare.

    Raises:
        OptionError: the candidates came without images, or figures are given for another number of atlases.
        GeometryError: masks lie on another grid.
        DatasetError: the scan is constant, or its mask is empty.
    """
    images, target = candidates.intensities("quality-controlled")
    if not 0 <= channel < len(target):
        raise OptionError(f"no channel {channel}: the scan has {len(target)}")
    for name, given in (("jacobians", jacobians), ("masks", masks)):
        if given is not None and len(given) != len(candidates):
            raise OptionError(f"{name} are given for {len(given)} atlases, found {len(candidates)}")
    dice = agreement(candidates.labels, candidates.classes)
    found = []
    for n, labels in enumerate(candidates.labels):
        others = np.delete(dice[n], n)
        local, whole, information = _likeness(target[channel], images[n, channel], labels)
        both = None if masks is None or target_mask is None else (masks[n], target_mask)
        found.append(
            Quality(
                agreement=float(np.median(others)) if others.size else None,
                local_correlation=local,
                correlation=whole,
                mutual_information=information,
                coverage=1.0 if candidates.inside is None else coverage(candidates.inside[n]),
                mask_overlap=mask_overlap(*both) if both else None,
                **(_jacobian_figures(jacobians[n]) if jacobians is not None else {}),
            )
        )
    return found


def _jacobian_figures(found: JacobianStatistics) -> dict[str, float | None]:
    mean, sd = (float(v) if np.isfinite(v) else None for v in (found.log_mean, found.log_sd))
    return {"folding": float(found.folding_fraction), "log_jacobian_mean": mean, "log_jacobian_sd": sd}


def _likeness(
    target: npt.NDArray[Any], warped: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> tuple[float, float, float]:
    """Local correlation, correlation and mutual information around an atlas' structures."""
    # An atlas that does not reach the scan, or brings an even patch of it, is a failure to report, not an error.
    if not labels.any() or float(warped.min()) == float(warped.max()):
        check_region(target, target, None)
        return 0.0, 0.0, 1.0
    region = region_of_interest(labels[None])
    return (
        local_correlation(target, warped, region),
        correlation(target, warped, region),
        mutual_information(target, warped, region),
    )
