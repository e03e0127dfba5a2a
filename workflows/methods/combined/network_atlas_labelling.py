"""``atlaseg segment`` for a network combined with atlases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.workflows.methods.atlases.atlas_labelling import AtlasLabeller

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from monai.data import MetaTensor

    from atlaseg.atlases.combined.combination import Combination, Kind
    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.atlases.propagation.propagation import Propagation
    from atlaseg.pipeline.segmenter import Segmentation
    from atlaseg.workflows.methods.labelling_job import LabellingJob

__all__ = ["NetworkAtlasLabeller"]


class NetworkAtlasLabeller(AtlasLabeller):
    """Labels scans with a network and its atlases; a context manager, because it holds worker processes.

    Args:
        source: run of a network with atlases.
        job: what was asked for; reports, and finished registrations while it is under way, are in its folder.

    Raises:
        AtlasegError: the run cannot be opened, or a choice is not possible.
    """

    def __init__(self, source: Path, job: LabellingJob) -> None:
        from atlaseg.atlases.combined.atlas_network_segmenter import AtlasNetworkSegmenter

        self._joined = AtlasNetworkSegmenter.load(
            source, device=job.network.device, tta=True if job.network.tta else None
        )
        self._joined.combination = _chosen(
            self._joined.combination, job.with_atlases.combine, job.with_atlases.weight
        )
        super().__init__(source, job)

    def _open(self) -> MultiAtlasSegmenter:
        return self._joined.atlases

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan; where the atlases have a say, also the report ``NAME_atlases.json`` and a line.

        A scan that is itself one of the atlases, by its file, is labelled with the help of the others.

        Raises:
            AtlasegError: the scan cannot be read or registered.
        """
        if self._joined.needs_atlases:
            return super().label(name, files, title)
        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.workflows.inputs.scan_masks import mask_of

        if mask_of(self.job.masks, name, files[0]) is not None:  # one that does not fit is refused as ever
            print(f"{title}: the atlases have no weight, so the mask is not used", flush=True)
        return self._joined.finish(read_image(files), None, probabilities=self.job.probabilities)

    def _result(
        self,
        image: MetaTensor,
        propagation: Propagation,
        mask: npt.NDArray[np.bool_] | None,  # noqa: ARG002
        *,
        corrected: bool,
    ) -> Segmentation:
        return self._joined.finish(
            image, propagation, probabilities=self.job.probabilities, corrected=corrected
        )


def _chosen(of_run: Combination, kind: Kind | None, weight: float | None) -> Combination:
    """The requested combination, completed by that of the run."""
    from atlaseg.atlases.combined.combination import DEFAULT_WEIGHT, Combination

    kind = kind or of_run.kind
    if weight is None:
        weight = of_run.weight if kind == of_run.kind else DEFAULT_WEIGHT[kind]
    return Combination(kind, weight)
