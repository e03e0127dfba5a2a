"""Augmentation that suits the size of voxels and structures: a mouse brain is not deformed by centimetres."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np

from atlaseg.pipeline.planning.fingerprint import Fingerprint, StructureSize
from atlaseg.pipeline.planning.plan import Augmentation, Spacing

__all__ = ["choose_augmentation", "choose_mirroring", "mirrored_pair"]

#: Standard deviation of elastic displacements in voxels, and at most this share of a structure's extent.
ELASTIC_VOXELS, ELASTIC_SHARE = 1.5, 0.1
#: Spacing of the coarse grid in standard deviations: gradients of the displacement stay far from folding.
GRID_IN_DEVIATIONS = 8.0
#: Two structures are each other's mirror image if volumes agree within this ratio ...
MIRROR_VOLUME_RATIO = 1.5
#: ... and centres, as shares of the labelled box, within this after mirroring, each off the middle by more.
MIRROR_TOLERANCE, OFF_MIDDLE = 0.08, 0.05


#: With so many labelled cases mirroring no longer helps (hippocampi, 160 cases, 12 minutes on a CPU core: mean
#: Dice 0.878 without and 0.874 with it; docs/reference/benchmarks.md).
ENOUGH_CASES = 50


def choose_augmentation(fingerprint: Fingerprint, spacing: Spacing, reasons: dict[str, str]) -> Augmentation:
    """Augmentation for a grid of voxels of ``spacing`` mm; adds its reasons."""
    reasons["augmentation"] = "probabilities per patch; photometric changes are in normalised intensities"
    elastic, grid = _choose_elastic(fingerprint, spacing, reasons)
    ratio = max(spacing) / min(spacing)
    rotation = 15.0 if ratio <= 3 else 5.0
    reasons["augmentation.rotation_degrees"] = (
        "how differently heads and bodies lie"
        if ratio <= 3
        else f"voxels are {ratio:.1f} times longer than wide: larger rotations would blur across slices"
    )
    reasons["augmentation.scaling"] = "how differently large subjects are"
    axes, reasons["augmentation.flip_axes"] = choose_mirroring(fingerprint)
    return Augmentation(
        rotation_degrees=rotation,
        elastic_mm=elastic,
        elastic_grid_mm=grid,
        flip_axes=axes,
    )


def choose_mirroring(fingerprint: Fingerprint) -> tuple[tuple[int, ...], str]:
    """Axes of the array that may be mirrored, in training as in test-time augmentation, and why."""
    if (pair := mirrored_pair(fingerprint)) is not None:
        return (), f"none: mirroring would swap {pair}"
    if fingerprint.cases >= ENOUGH_CASES:
        return (), (
            f"none: {fingerprint.cases} labelled cases show enough anatomy, and learning the mirror images too "
            "would only cost steps"
        )
    return (0,), (
        "left and right (axis 0) are mirrored: no two structures are each other's mirror image, so labels stay "
        "right; top and bottom, front and back are never swapped in a scan"
    )


def _choose_elastic(
    fingerprint: Fingerprint, spacing: Spacing, reasons: dict[str, str]
) -> tuple[float, float]:
    """Displacement and grid in mm."""
    edge = float(np.prod(spacing) ** (1 / 3))
    extent = float(np.median([s.extent_mm for s in fingerprint.structures]))
    by_voxel, by_structure = ELASTIC_VOXELS * edge, ELASTIC_SHARE * extent
    elastic = float(f"{min(by_voxel, by_structure):.3g}")
    grid = float(f"{GRID_IN_DEVIATIONS * elastic:.3g}")
    reasons["augmentation.elastic_mm"] = (
        f"{ELASTIC_VOXELS:g} voxels of {edge:.3g} mm"
        if by_voxel <= by_structure
        else f"a tenth of a typical structure's extent of {extent:.3g} mm"
    )
    reasons["augmentation.elastic_grid_mm"] = (
        f"{GRID_IN_DEVIATIONS:g} times the displacement, so that space never folds"
    )
    return elastic, grid


def mirrored_pair(fingerprint: Fingerprint) -> str | None:
    """Two structures that mirroring would swap, in words, or ``None``.

    Known by their names (``left`` and ``right`` as words) or by their places: equal volumes, and centres that
    mirror each other across the middle of the labelled box.
    """
    sided = [s.name for s in fingerprint.structures if _side(s.name)]
    if sided:
        return f"left and right, which {sided[0]!r} is named for"
    for a, b in combinations(fingerprint.structures, 2):
        if _mirror_images(a, b):
            return f"{a.name!r} and {b.name!r}, which lie on opposite sides"
    return None


def _side(name: str) -> bool:
    """Whether a name says left or right.

    >>> [_side(n) for n in ("Left-Hippocampus", "hippocampus_R", "kidney right", "lh", "bright spot")]
    [True, True, True, True, False]
    """
    words = re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", name).lower())
    return any(w in {"left", "right", "l", "r", "lh", "rh"} for w in words)


def _mirror_images(a: StructureSize, b: StructureSize) -> bool:
    volumes = sorted((a.volume_ml, b.volume_ml))
    across = np.abs(np.asarray(a.centre) - np.asarray((1 - b.centre[0], b.centre[1], b.centre[2])))
    apart = min(abs(a.centre[0] - 0.5), abs(b.centre[0] - 0.5))
    return bool(
        volumes[1] <= MIRROR_VOLUME_RATIO * volumes[0]
        and (a.centre[0] - 0.5) * (b.centre[0] - 0.5) < 0
        and apart > OFF_MIDDLE
        and (across < MIRROR_TOLERANCE).all()
    )
