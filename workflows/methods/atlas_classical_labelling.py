"""The part of ``atlaseg segment`` for a classical method that atlases tell where structures lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.workflows.methods.atlas_labelling import AtlasChoices, AtlasLabeller, mask_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from monai.data import MetaTensor

    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.atlases.propagation.propagation import Propagation
    from atlaseg.pipeline.segmenter import Segmentation

__all__ = ["AtlasClassicalLabeller"]


class AtlasClassicalLabeller(AtlasLabeller):
    """Labels scans with a classical method and its atlases; a context manager, because it holds worker processes.

    Args:
        source: run of such a method.
        out: folder for the reports, and for finished registrations while the job is under way.
        choices: of the user.
        probabilities: whether labels come with probabilities.
        weight: of the atlases, ``None`` as the run has it.

    Raises:
        AtlasegError: the run cannot be opened, or a choice is not possible.
    """

    def __init__(
        self,
        source: Path,
        out: Path,
        choices: AtlasChoices,
        *,
        probabilities: bool,
        weight: float | None = None,
    ) -> None:
        from atlaseg.atlases.atlas_classical_segmenter import AtlasClassicalSegmenter
        from atlaseg.pipeline.errors import OptionError

        self._told = AtlasClassicalSegmenter.load(source)
        if weight is not None:
            self._told.weight = weight
        if self._told.classical.needs_masks and choices.masks is None:
            raise OptionError(f"{source}: learnt inside masks, so scans need theirs: give --masks FOLDER")
        super().__init__(source, out, choices, probabilities=probabilities)

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

        mask = mask_of(self.choices.masks, name, files[0])
        return self._told.finish(read_image(files), None, mask=mask, probabilities=self.probabilities)

    def _result(
        self,
        image: MetaTensor,
        propagation: Propagation,
        mask: npt.NDArray[np.bool_] | None,
        *,
        corrected: bool,
    ) -> Segmentation:
        return self._told.finish(
            image, propagation, mask=mask, probabilities=self.probabilities, corrected=corrected
        )
