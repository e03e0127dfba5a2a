"""A fusion rule: a label needs a quorum of the atlases, or the place is background."""

from dataclasses import dataclass

import numpy as np

from atlaseg.atlases.fusion.candidates import Candidates, Fused
from atlaseg.atlases.fusion.majority import Majority
from atlaseg.atlases.fusion.registry import FusionRow
from atlaseg.pipeline.schema import Share

ROW = FusionRow(
    "quorum", "a label needs a quorum of the atlases, or it is background", "atlaseg_example.quorum:Quorum"
)


@dataclass(frozen=True)
class Quorum:
    """The fields of a rule are its options: ``--option share=0.8``."""

    share: Share = 0.5

    def fuse(self, candidates: Candidates, *, probabilities: bool = True) -> Fused:
        """Labels, and shares of the vote if asked for."""
        votes = Majority().fuse(candidates)
        shares = votes.probabilities
        reached = shares.max(axis=0) >= self.share
        labels = np.where(reached, votes.labels, 0).astype(votes.labels.dtype)
        return Fused(labels, shares if probabilities else None)
