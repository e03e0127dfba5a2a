"""``atlaseg segment`` for any segmenter that satisfies the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.methods.labeller import Labeller

if TYPE_CHECKING:
    from atlaseg.pipeline.segmenter import Segmentation, Segmenter

__all__ = ["SegmenterLabeller"]


class SegmenterLabeller(Labeller):
    """Segments scans with a fitted segmenter.

    Args:
        segmenter: fitted or loaded.
        channels: how many channels scans must have.
        masks: a mask, or a folder of masks with the names of the scans.
        probabilities: whether labels come with probabilities.
        more: further keywords of its ``segment``.

    Raises:
        OptionError: there are no such masks.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        channels: int,
        *,
        masks: Path | None = None,
        probabilities: bool = False,
        **more: Any,
    ) -> None:
        from atlaseg.workflows.inputs.scan_masks import refuse_missing_masks

        super().__init__()
        refuse_missing_masks(masks)
        self.segmenter, self.masks = segmenter, masks
        self._channels, self._more = channels, {"probabilities": probabilities, **more}

    @property
    def channels(self) -> int:
        """Number of channels of the scans."""
        return self._channels

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan; prints a line."""
        import time

        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.pipeline.progress import ProgressDisplay
        from atlaseg.workflows.inputs.scan_masks import mask_of

        begun = time.monotonic()
        image, mask = read_image(files), mask_of(self.masks, name, files[0])
        with ProgressDisplay(title, 1.0) as bar:
            result = self.segmenter.segment(image, mask=mask, progress=bar, **self._more)
        print(f"{title}: {time.monotonic() - begun:.1f} s", flush=True)
        return result
