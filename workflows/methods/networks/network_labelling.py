"""The part of ``atlaseg segment`` for networks: one run, or several as an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.workflows.methods.labeller import Labeller

if TYPE_CHECKING:
    from atlaseg.pipeline.segmenter import Segmentation

__all__ = ["NetworkLabeller"]


class NetworkLabeller(Labeller):
    """Labels scans with a network or an ensemble.

    Args:
        runs: folders that `atlaseg train` wrote.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        tta: average over mirrored and shifted copies even where the plan does not.
        probabilities: whether labels come with probabilities.

    Raises:
        AtlasegError: a run cannot be opened, or the runs do not go together.
    """

    def __init__(self, runs: Sequence[Path], device: str, *, tta: bool, probabilities: bool) -> None:
        from atlaseg.pipeline.network_segmenter import NetworkSegmenter

        super().__init__()
        self.tta, self.probabilities = tta, probabilities
        self._segmenter = NetworkSegmenter.load(*runs, device=device)

    @property
    def channels(self) -> int:
        """How many channels scans must have."""
        return len(self._segmenter.fitted_plan.channels)

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:  # noqa: ARG002
        """Labels of one scan."""
        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.pipeline.progress import ProgressDisplay

        with ProgressDisplay(title, 1.0) as bar:
            return self._segmenter.segment(
                read_image(files),
                tta=True if self.tta else None,
                probabilities=self.probabilities,
                progress=bar,
            )
