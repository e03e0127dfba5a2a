"""How scans are made ready for a network: voxel size, normalisation, and whether to crop, each with its reason."""

from __future__ import annotations

import numpy as np

from atlaseg.pipeline.errors import PlanError
from atlaseg.pipeline.planning.fingerprint import Fingerprint
from atlaseg.pipeline.planning.plan import Normalisation, Spacing

__all__ = ["choose_normalisation", "choose_spacing", "resampled"]

#: Voxels whose longest edge is more than this many times the shortest are anisotropic.
ANISOTROPIC = 3.0
#: Crop where the box around non-zero voxels takes at most this share of the scan ...
CROP_BELOW = 0.75
#: ... and holds at least this share of every case's labelled voxels.
LABELS_IN_BOX = 0.995
#: Learn from non-zero voxels only where at most this share of the voxels is not zero.
SKULL_STRIPPED_BELOW = 0.5


def choose_spacing(fingerprint: Fingerprint, reasons: dict[str, str]) -> Spacing:
    """Voxel size of the network's grid in mm: the median of the scans.

    Along the long edge of anisotropic voxels it is finer, to keep what the sharpest scans show.
    """
    spacings = np.asarray(fingerprint.spacings)
    target = np.median(spacings, axis=0)
    same = bool(np.allclose(spacings, target, rtol=1e-3))
    reason = f"all {fingerprint.cases} scans have it" if same else f"median of {fingerprint.cases} scans"
    longest = int(target.argmax())
    ratio = float(target.max() / target.min())
    if ratio > ANISOTROPIC:
        others = np.delete(target, longest).max()
        target[longest] = max(np.percentile(spacings[:, longest], 10), others)
        what = (
            ""
            if same
            else "; along the longest edge the 10th percentile, so that the finest scans keep detail"
        )
        reason += f"{what}; voxels are {ratio:.1f} times longer than wide, which the network's strides follow"
    reasons["spacing"] = reason
    a, b, c = (float(f"{s:.4g}") for s in target)
    return a, b, c


def choose_normalisation(
    fingerprint: Fingerprint, reasons: dict[str, str]
) -> tuple[Normalisation, float | None]:
    """Normalisation and the threshold of cropping, which both depend on what zero means.

    Raises:
        PlanError: channels of CT and of other kinds together, or a CT without contrast.
    """
    names = ", ".join(fingerprint.channels)
    if fingerprint.modality == "mixed":
        raise PlanError(
            f"{fingerprint.dataset}: channels {names} are of CT and of other kinds, but a plan has one "
            "normalisation; leave the CT or the others out, or rename the CT channel to treat it like MRI (--channels)"
        )
    if fingerprint.modality == "CT":
        lower = min(c.percentile_00_5 for c in fingerprint.intensities)
        upper = max(c.percentile_99_5 for c in fingerprint.intensities)
        lower, upper = float(f"{lower:.4g}"), float(f"{upper:.4g}")
        if lower >= upper:
            raise PlanError(f"{fingerprint.dataset}: labelled voxels are all {lower:g} in channel {names}")
        reasons["normalisation"] = (
            f"channel {names} is CT, whose values are comparable between scans: clipped to the 0.5 and 99.5 "
            f"percentiles of labelled voxels, {lower:g} and {upper:g}, and scaled to 0 to 1"
        )
        reasons["foreground_threshold"] = "CT has no background of zeros to crop"
        return Normalisation("clip-scale", lower=lower, upper=upper), None
    nonzero = fingerprint.nonzero_share <= SKULL_STRIPPED_BELOW
    which = "non-zero voxels only" if nonzero else "the whole scan"
    reasons["normalisation"] = (
        f"intensities of MRI have no unit ({names} is not CT): mean 0 and standard deviation 1 over "
        f"{which}; {100 * fingerprint.nonzero_share:.0f} percent of a typical scan's voxels are not zero"
    )
    return Normalisation("zscore", nonzero=nonzero), _choose_crop(fingerprint, reasons)


def _choose_crop(fingerprint: Fingerprint, reasons: dict[str, str]) -> float | None:
    share = f"non-zero voxels fill a box of {100 * fingerprint.box_share:.0f} percent of a typical scan"
    if fingerprint.box_share > CROP_BELOW:
        reasons["foreground_threshold"] = f"{share}: cropping would save too little"
        return None
    if fingerprint.labels_in_box < LABELS_IN_BOX:
        lost = 100 * (1 - fingerprint.labels_in_box)
        reasons["foreground_threshold"] = (
            f"{share}, but cropping would lose {lost:.1f} percent of a case's labels"
        )
        return None
    reasons["foreground_threshold"] = f"{share}: the rest is cropped"
    return 0.0


def resampled(fingerprint: Fingerprint, spacing: Spacing, *, cropped: bool) -> np.ndarray:
    """Voxels of each scan on the plan's grid, ``(cases, 3)``."""
    shapes = np.asarray(fingerprint.box_shapes if cropped else fingerprint.shapes, dtype=float)
    resampled: np.ndarray = shapes * np.asarray(fingerprint.spacings) / np.asarray(spacing)
    return resampled
