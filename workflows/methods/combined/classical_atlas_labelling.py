"""``atlaseg segment`` for a classical method with a location prior from atlases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.workflows.methods.atlases.atlas_labelling import AtlasLabeller

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from monai.data import MetaTensor

    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.atlases.propagation.propagation import Propagation
    from atlaseg.pipeline.segmenter import Segmentation
    from atlaseg.workflows.methods.labelling_job import LabellingJob

__all__ = ["ClassicalAtlasLabeller"]


class ClassicalAtlasLabeller(AtlasLabeller):
    """Labels scans with a classical method and its atlases; a context manager, because it holds worker processes.

    Args:
        source: run of such a method.
        job: what was asked for; reports, and finished registrations while it is under way, are in its folder.

    Raises:
        AtlasegError: the run cannot be opened, or a choice is not possible.
    """

    def __init__(self, source: Path, job: LabellingJob) -> None:
        from atlaseg.atlases.combined.atlas_classical_segmenter import AtlasClassicalSegmenter
        from atlaseg.workflows.methods.classical.classical_family import refuse_without_masks

        self._told = AtlasClassicalSegmenter.load(source)
        if job.with_atlases.weight is not None:
            self._told.weight = job.with_atlases.weight
        refuse_without_masks(source, self._told.classical, job)
        super().__init__(source, job)

    def _open(self) -> MultiAtlasSegmenter:
        return self._told.atlases

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan; where the atlases have a weight, also the report ``NAME_atlases.json`` and a line.

        A scan that is itself one of the atlases, by its voxels, is labelled with the help of the others.

        Raises:
            AtlasegError: the scan cannot be read or registered.
        """
        if self._told.weight > 0:
            return super().label(name, files, title)
        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.workflows.inputs.scan_masks import mask_of

        mask = mask_of(self.job.masks, name, files[0])
        return self._told.finish(read_image(files), None, mask=mask, probabilities=self.job.probabilities)

    def _result(
        self,
        image: MetaTensor,
        propagation: Propagation,
        mask: npt.NDArray[np.bool_] | None,
        *,
        corrected: bool,
    ) -> Segmentation:
        return self._told.finish(
            image, propagation, mask=mask, probabilities=self.job.probabilities, corrected=corrected
        )
