"""The part of ``atlaseg segment`` for a network that was trained beside atlases."""

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
    from atlaseg.pipeline.inference.combination import Combination, Kind
    from atlaseg.pipeline.segmenter import Segmentation

__all__ = ["JoinedLabeller"]


class JoinedLabeller(AtlasLabeller):
    """Labels scans with a network and its atlases; a context manager, because it holds worker processes.

    Args:
        source: run of a joined method.
        out: folder for the reports, and for finished registrations while the job is under way.
        choices: of the user.
        device: of the network: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        tta: average over mirrored and shifted copies even where the plan does not.
        probabilities: whether labels come with probabilities.
        combine: how network and atlases are joined, ``None`` as the run has it.
        weight: of the atlases there, ``None`` as the run has it, or the default of another way of joining.

    Raises:
        AtlasegError: the run cannot be opened, or a choice is not possible.
    """

    def __init__(
        self,
        source: Path,
        out: Path,
        choices: AtlasChoices,
        *,
        device: str,
        tta: bool,
        probabilities: bool,
        combine: Kind | None = None,
        weight: float | None = None,
    ) -> None:
        from atlaseg.atlases.atlas_network_segmenter import AtlasNetworkSegmenter

        self._joined = AtlasNetworkSegmenter.load(source, device=device)
        self._joined.combination = _chosen(self._joined.combination, combine, weight)
        self._tta = True if tta else None
        super().__init__(source, out, choices, probabilities=probabilities)

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

        if (
            mask_of(self.choices.masks, name, files[0]) is not None
        ):  # one that does not fit is refused as ever
            print(f"{title}: the atlases have no say, so the mask is not used", flush=True)
        return self._joined.finish(read_image(files), None, tta=self._tta, probabilities=self.probabilities)

    def _result(
        self,
        image: MetaTensor,
        propagation: Propagation,
        mask: npt.NDArray[np.bool_] | None,  # noqa: ARG002
        *,
        corrected: bool,
    ) -> Segmentation:
        return self._joined.finish(
            image, propagation, tta=self._tta, probabilities=self.probabilities, corrected=corrected
        )


def _chosen(of_run: Combination, kind: Kind | None, weight: float | None) -> Combination:
    """The combination that was asked for, filled up by the run's own."""
    from atlaseg.pipeline.inference.combination import DEFAULT_WEIGHT, Combination

    kind = kind or of_run.kind
    if weight is None:
        weight = of_run.weight if kind == of_run.kind else DEFAULT_WEIGHT[kind]
    return Combination(kind, weight)
