"""The part of ``atlaseg segment`` for a method with atlases, be it a network or a classical one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.workflows.methods.atlases.atlas_labelling import AtlasLabeller

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from monai.data import MetaTensor

    from atlaseg.atlases.combined.combined_segmenter import CombinedSegmenter
    from atlaseg.atlases.propagation.propagation import Propagation
    from atlaseg.pipeline.segmenter import Segmentation
    from atlaseg.workflows.methods.labelling_job import LabellingJob

__all__ = ["CombinedLabeller"]


class CombinedLabeller(AtlasLabeller):
    """Labels scans with a method and its atlases, which are registered only where they have a say.

    Args:
        source: folder of the run, for messages.
        combined: the method and its atlases.
        job: what was asked for; reports, and finished registrations while it is under way, are in its folder.

    Raises:
        OptionError: there are no such masks, or the method needs some.
    """

    def __init__(self, source: Path, combined: CombinedSegmenter, job: LabellingJob) -> None:
        from atlaseg.workflows.inputs.scan_masks import refuse_without_masks

        super().__init__(combined.atlases, job)
        refuse_without_masks(source, job.masks, needed=combined.needs_masks)
        self._combined = combined

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan; where the atlases have a say, also the report ``NAME_atlases.json`` and a line.

        A scan that is itself one of the atlases, by its voxels, is labelled with the help of the others.

        Raises:
            AtlasegError: the scan cannot be read or registered.
        """
        if self._combined.needs_atlases:
            return super().label(name, files, title)
        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.workflows.inputs.scan_masks import mask_of

        mask = mask_of(self.job.masks, name, files[0])
        if mask is not None and not self._combined.takes_masks:
            print(f"{title}: the atlases have no say, so the mask is not used", flush=True)
            mask = None
        return self._combined.finish(read_image(files), None, mask=mask, probabilities=self.job.probabilities)

    def _result(
        self,
        image: MetaTensor,
        propagation: Propagation,
        mask: npt.NDArray[np.bool_] | None,
        *,
        corrected: bool,
    ) -> Segmentation:
        return self._combined.finish(
            image, propagation, mask=mask, probabilities=self.job.probabilities, corrected=corrected
        )
