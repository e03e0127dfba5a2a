"""What training and labelling by a method together with atlases can be asked for, beyond what each of the two can."""

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
    """How many training cases become atlases; by default all, but at most 20 of many."""
    weight: Share | None = None
    """Of the atlases in the end; by default learnt, beside a network from the cases kept for validation, beside a
    classical method from training cases."""


@dataclass(frozen=True)
class NetworkBesideAtlases:
    """For networks with atlases."""

    prior: Literal["yes", "no"] = "no"
    """Whether the network sees what the atlases say, as further channels."""
    warped: Whole = 0
    """How many atlases, warped onto each other, the network trains with; n of them make n (n - 1) pairs."""
    combine: Literal["ensemble", "bayes", "none"] = "ensemble"
    """How network and atlases are joined in the end."""
    unlabelled: Path | None = None
    """Folder of further scans, without labels, which the atlases label for the network to learn from too."""


@dataclass(frozen=True)
class CombinedLabelling:
    """For networks and classical methods with atlases."""

    #: Training takes options of these names too, but learns nothing else by them.
    late: ClassVar[tuple[str, ...]] = ("combine", "weight")

    combine: Literal["ensemble", "bayes", "none"] | None = None
    """Networks with atlases: how the two are joined in the end; by default as the run has it."""
    weight: Share | None = None
    """Of the atlases in the end; 0 takes network or method alone."""
