"""The part of ``atlaseg segment`` for runs of classical methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.workflows.methods.labeller import Labeller

if TYPE_CHECKING:
    from atlaseg.pipeline.segmenter import Segmentation

__all__ = ["ClassicalLabeller"]


class ClassicalLabeller(Labeller):
    """Labels scans with a run of a classical method.

    Args:
        run: folder that `atlaseg train` wrote.
        masks: a mask, or a folder of masks with the names of the scans.
        probabilities: whether labels come with probabilities.

    Raises:
        AtlasegError: the run cannot be opened.
        OptionError: there is no such mask, or the run needs masks.
    """

    def __init__(self, run: Path, *, masks: Path | None, probabilities: bool) -> None:
        from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.workflows.inputs.scan_masks import refuse_missing_masks

        super().__init__()
        refuse_missing_masks(masks)
        self.masks, self.probabilities = masks, probabilities
        self._segmenter = ClassicalSegmenter.load(run)
        if self._segmenter.needs_masks and masks is None:
            raise OptionError(f"{run}: learnt inside masks, so scans need theirs: give --masks FOLDER")

    @property
    def channels(self) -> int:
        """How many channels scans must have."""
        return len(self._segmenter.channels)

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan."""
        import time

        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.workflows.inputs.scan_masks import mask_of

        begun = time.monotonic()
        image, mask = read_image(files), mask_of(self.masks, name, files[0])
        result = self._segmenter.segment(image, mask=mask, probabilities=self.probabilities)
        print(f"{title}: {time.monotonic() - begun:.1f} s", flush=True)
        return result
