"""Further options of training and segmentation with a method combined with atlases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from atlaseg.pipeline.schema import Count, Share, Whole

__all__ = ["CombinedLabelling", "CombinedTraining", "NetworkBesideAtlases"]


@dataclass(frozen=True)
class CombinedTraining:
    """For networks and classical methods with atlases."""

    atlases: Count | None = None
    """Number of training cases that become atlases; by default all, but at most 20."""
    weight: Share | None = None
    """Weight of the atlases in the combination; by default learnt: for a network from the validation cases, for a
    classical method from training cases."""


@dataclass(frozen=True)
class NetworkBesideAtlases:
    """For networks with atlases."""

    prior: Literal["yes", "no"] = "no"
    """Whether fused label probabilities of the atlases are further input channels of the network."""
    warped: Whole = 0
    """Number of atlases to warp onto each other for training; n of them make n (n - 1) warped scans."""
    combine: Literal["ensemble", "bayes", "none"] = "ensemble"
    """Rule that combines the probabilities of network and atlases."""
    unlabelled: Path | None = None
    """Folder of unlabelled scans, which get pseudo-labels from the atlases for training the network."""


@dataclass(frozen=True)
class CombinedLabelling:
    """For networks and classical methods with atlases."""

    #: Training takes options of these names too, but learns nothing else by them.
    late: ClassVar[tuple[str, ...]] = ("combine", "weight")

    combine: Literal["ensemble", "bayes", "none"] | None = None
    """Networks with atlases: rule that combines the two; by default that of the run."""
    weight: Share | None = None
    """Weight of the atlases in the combination; 0 takes network or method alone."""
