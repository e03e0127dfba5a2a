"""Majority vote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atlaseg.atlases.fusion.candidates import Candidates, Fused
from atlaseg.atlases.fusion.voting import vote

__all__ = ["Majority"]


@dataclass(frozen=True)
class Majority:
    """Each atlas has one vote at each place it has seen; the label with the most votes wins.

    Needs no images. Probabilities are shares of the vote. Even so simple a rule is better than any single atlas,
    because the errors of registrations are partly independent: Heckemann et al., "Automatic anatomical brain MRI
    segmentation combining label propagation and decision fusion", NeuroImage 33(1):115-126 (2006),
    https://doi.org/10.1016/j.neuroimage.2006.05.061

    >>> maps = np.array([[[[0, 1, 1]]], [[[0, 1, 2]]], [[[0, 2, 2]]]], dtype=np.uint8)
    >>> fused = Majority().fuse(Candidates(maps, classes=3))
    >>> fused.labels.ravel().tolist()
    [0, 1, 2]
    """

    def fuse(self, candidates: Candidates, *, probabilities: bool = True) -> Fused:
        """Labels, and shares of the vote if asked for."""
        weights = np.ones((len(candidates), 1), dtype=np.float32)
        return vote(candidates, lambda _: weights, probabilities=probabilities)
