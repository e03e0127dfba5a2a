"""Weighted vote with one weight for each atlas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.fusion.candidates import Candidates, Fused
from atlaseg.atlases.fusion.voting import Canvas, vote
from atlaseg.pipeline.errors import OptionError

__all__ = ["GlobalWeighted"]

GlobalMetric = Literal["ncc", "mse", "mi"]

#: The smallest difference that counts, as a part of the target's variance: a perfect match must not divide by zero.
PERFECT = 1e-6


@dataclass(frozen=True)
class GlobalWeighted:
    """Weighted voting: the weight of an atlas is the similarity of its image to the scan where the atlases disagree.

    The weight is ``similarity ** power``: Artaechevarria, Munoz-Barrutia and Ortiz-de-Solorzano, "Combination
    strategies in multi-atlas image segmentation: application to brain MR data", IEEE Transactions on Medical
    Imaging 28(8):1266-1277 (2009), https://doi.org/10.1109/TMI.2009.2014372. Similarity is measured only around
    the voxels in dispute, the only place where weights matter. If no atlas is similar at all, they vote equally.

    Defaults are the middle of a plateau found among atlases (greedy registration, each fused from all others): mean
    Dice on ten hippocampi 0.833 where majority vote had 0.830, on five mouse brains 0.906 where it had 0.903. ``mse``
    had 0.838 on the hippocampi at power 3, and at power 8 less than majority vote.

    Args:
        metric: ``ncc`` (correlation; below zero counts as zero), ``mse`` (the reciprocal of the mean squared
            difference, relative to the scan's variance), ``mi`` (mutual information of a joint histogram).
            Several channels are averaged.
        power: the higher, the more the best atlases decide alone; 0 is majority vote.
        margin: voxels by which the disputed region is widened before similarity is measured on it.

    Raises:
        OptionError: an option is not one of these.
    """

    metric: GlobalMetric = "ncc"
    power: float = 4.0
    margin: int = 2

    def __post_init__(self) -> None:
        if self.metric not in get_args(GlobalMetric):
            raise OptionError(
                f"global-weighted fusion has no metric {self.metric!r}; choose one of "
                f"{', '.join(get_args(GlobalMetric))}"
            )
        if not 0 <= self.power < np.inf:
            raise OptionError(f"global-weighted fusion: power must be 0 or more, found {self.power}")
        if self.margin < 0:
            raise OptionError(f"global-weighted fusion: margin must be 0 voxels or more, found {self.margin}")

    def fuse(self, candidates: Candidates, *, probabilities: bool = True) -> Fused:
        """Labels, and shares of the vote if asked for; ``details["weights"]`` holds each atlas's, summing to one.

        Raises:
            OptionError: the candidates came without images or without the scan.
        """
        images, target = candidates.intensities("global-weighted")
        canvas = Canvas(candidates, probabilities)
        similarity = self._similarities(candidates, images, target, canvas.mask)
        # relative to the best before the power is taken, so that no power leaves the range of floats
        best = similarity.max()
        weights = (similarity / best if best > 0 else np.ones_like(similarity)) ** self.power
        column = weights.astype(np.float32)[:, None]
        details = {"weights": (weights / weights.sum()).tolist()}
        return vote(candidates, lambda _: column, probabilities=probabilities, canvas=canvas, details=details)

    def _similarities(
        self,
        candidates: Candidates,
        images: npt.NDArray[np.float32],
        target: npt.NDArray[np.float32],
        mask: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float64]:
        """``(N,)``, none below zero; 0 for an atlas that has seen nothing of the disputed region."""
        region = _widened(mask, self.margin)
        measure = MEASURES[self.metric]
        similarity = np.zeros(len(candidates))
        for atlas, image in enumerate(images):
            place = region if candidates.inside is None else region & candidates.inside[atlas]
            if place.any():
                pairs = zip(image, target, strict=True)
                similarity[atlas] = np.mean(
                    [measure(a[place].astype(np.float64), b[place].astype(np.float64)) for a, b in pairs]
                )
        return similarity


def _widened(mask: npt.NDArray[np.bool_], margin: int) -> npt.NDArray[np.bool_]:
    from scipy import ndimage

    if not margin or not mask.any():
        return mask
    # a box of 3 x 3 x 3, margin times: within the bounding box only, since scans are much larger than what is disputed
    box = tuple(
        slice(max(0, part.start - margin), part.stop + margin)
        for part in ndimage.find_objects(mask.view(np.uint8))[0]
    )
    wide = np.zeros_like(mask)
    wide[box] = ndimage.maximum_filter(mask[box], size=2 * margin + 1, mode="constant")
    return wide


def _correlation(atlas: npt.NDArray[np.float64], scan: npt.NDArray[np.float64]) -> float:
    """Pearson's, 0 where it is negative or one of the two is constant."""
    a, b = atlas - atlas.mean(), scan - scan.mean()
    scale = np.sqrt(np.dot(a, a) * np.dot(b, b))
    return max(0.0, float(np.dot(a, b) / scale)) if scale > 0 else 0.0


def _closeness(atlas: npt.NDArray[np.float64], scan: npt.NDArray[np.float64]) -> float:
    """Variance of the scan by mean squared difference; a constant scan gives 0 to all."""
    variance = float(scan.var())
    return variance / (float(np.mean((atlas - scan) ** 2)) + PERFECT * variance) if variance > 0 else 0.0


def _mutual_information(atlas: npt.NDArray[np.float64], scan: npt.NDArray[np.float64]) -> float:
    """Of a joint histogram, nats; at most 32 bins, fewer where so many would leave most of them empty."""
    bins = int(np.clip(np.sqrt(atlas.size / 5), 2, 32))
    joint = np.histogram2d(atlas, scan, bins=bins)[0] / atlas.size
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    full = joint > 0
    return max(0.0, float(np.sum(joint[full] * np.log(joint[full] / apart[full]))))


Measure = Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]
MEASURES: dict[GlobalMetric, Measure] = {"ncc": _correlation, "mse": _closeness, "mi": _mutual_information}
