"""The :class:`~atlaseg.pipeline.segmenter.Segmenter` of a classical method with a location prior from atlases."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.combined.chosen_atlases import chosen_atlases, refuse_too_few
from atlaseg.atlases.combined.combination import checked_weight
from atlaseg.atlases.combined.combined_bundle import ATLASES, read_weight, write_weight
from atlaseg.atlases.combined.combined_segmenter import CombinedSegmenter
from atlaseg.atlases.combined.weight_learning import weight_beside_classical
from atlaseg.atlases.multi_atlas_segmenter import DEFAULT_FUSION, MultiAtlasSegmenter
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.pipeline.classical.classical_bundle import SETTINGS
from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
from atlaseg.pipeline.errors import DatasetError, NotFittedError
from atlaseg.pipeline.progress import Progress
from atlaseg.pipeline.segmenter import Segmentation
from atlaseg.pipeline.slice_borders import keep_slice_borders

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from atlaseg.atlases.propagation.propagation import Propagation
    from atlaseg.pipeline.case import Dataset

__all__ = ["AtlasClassicalSegmenter"]


class AtlasClassicalSegmenter(CombinedSegmenter):
    """Segments scans with a classical method whose location prior comes from registered atlases.

    A classical method knows what structures look like, and roughly where they lie
    (:mod:`atlaseg.pipeline.classical.location_prior`). Here atlases are registered to the scan, and their fused votes
    are pooled with that prior (:func:`atlaseg.pipeline.classical.location_prior.pooled`), before anything is
    smoothed. Van Leemput et al., IEEE Transactions on Medical Imaging 18:897-908 (1999), doi:10.1109/42.811270, give
    Gaussian mixtures and Markov random fields a prior of a registered atlas.

    How much the votes weigh is learnt from training scans
    (:func:`atlaseg.atlases.combined.weight_learning.weight_beside_classical`).

    Args:
        folder: where :meth:`fit` writes a bundle, as :meth:`save` does; ``None``: nothing is written.
        method: name of the classical method.
        options: of the method; those that are not given keep their defaults, or are chosen by training.
        fusion: name of the fusion rule.
        propagation: how atlases are chosen and registered.
        atlases: how many training cases become atlases; ``None``: all, but at most 20 of many.
        weight: of the atlases, 0 to 1; ``None``: learnt.
        correct: whether the fused votes are corrected (:mod:`atlaseg.atlases.correction.correction`); ``None``: where
            it is worth it.
        borders: whether borders along slices are kept (:mod:`atlaseg.pipeline.slice_borders`).
        executor: runs one registration per task; ``None``: here, one after the other.
        work: folder that keeps finished registrations; ``None``: they serve :meth:`fit` and are gone.

    Raises:
        OptionError: there is no such method or option, or the weight is not possible.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        method: str = "mrf",
        options: Mapping[str, Any] | None = None,
        fusion: str = DEFAULT_FUSION,
        propagation: PropagationOptions | None = None,
        atlases: int | None = None,
        weight: float | None = None,
        correct: bool | None = None,
        borders: bool = True,
        executor: Executor | None = None,
        work: Path | None = None,
    ) -> None:
        refuse_too_few(atlases)
        self.folder = folder
        self.propagation = propagation or PropagationOptions()
        self._classical = ClassicalSegmenter(method=method, options=options, seed=self.propagation.seed)
        self._atlases = MultiAtlasSegmenter(fusion=fusion, options=self.propagation)
        self.executor, self.work = executor, work
        self.number_of_atlases = atlases
        self.correct, self.keep_borders = correct, borders
        self._asked = None if weight is None else checked_weight(weight)
        self._weight: float | None = None
        #: Where the weight is from, and how each did that was tried.
        self.about: dict[str, Any] = {}

    def fit(self, dataset: Dataset) -> Self:
        """Learn from the labelled cases of a data set, which become atlases too.

        Raises:
            DatasetError: fewer than two cases have labels, or as :meth:`ClassicalSegmenter.fit`.
            AtlasegError: a file is not as it must be, or no atlas could be registered.
        """
        return self.fit_atlases(AtlasSet.from_dataset(dataset))

    def fit_atlases(self, everything: AtlasSet, progress: Progress | None = None) -> Self:
        """As :meth:`fit`, for a set that may have masks too.

        Args:
            everything: training cases; the atlases are among them.
            progress: called with the current step.
        """
        if len(everything) < 2:
            raise DatasetError(
                f"{everything.name}: {len(everything)} labelled case; atlases need another one"
            )
        self._weight = None
        self._atlases.fit_atlases(everything.subset(chosen_atlases(everything.names, self.number_of_atlases)))
        if not self.keep_borders:
            self._atlases.borders = ()
        self._classical.fit(everything.dataset, everything.masks)
        with TemporaryDirectory() as here:
            # each registration serves weight and correction
            self._atlases.executor, self._atlases.work = self.executor, self.work or Path(here)
            if self._asked is None:
                learnt = weight_beside_classical(everything, self._classical, self._atlases, progress)
                weight, self.about = learnt.weight, learnt.about
            else:
                weight, self.about = self._asked, {"weight_from": "asked for"}
            self._atlases.learn_correction_if_due(self.correct, progress)
        self._atlases.executor = self._atlases.work = None
        self._weight = weight
        if self.folder is not None:
            self.save(self.folder)
        return self

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Open a folder that :meth:`save` wrote; reads numbers, settings and atlases, runs nothing of the folder.

        Raises:
            MissingFileError: the folder is not a finished run.
            UnreadableFileError: a file of it is damaged.
            PlanError, UnsafeModelError: as :meth:`ClassicalSegmenter.load`.
        """
        weight, about = read_weight(directory)
        segmenter = cls()
        segmenter._classical = ClassicalSegmenter.load(directory)
        segmenter._atlases = MultiAtlasSegmenter.load(directory / ATLASES)
        segmenter._weight, segmenter.about = weight, about
        return segmenter

    def save(self, directory: Path) -> None:
        """Write a bundle folder with a copy of the atlases.

        Raises:
            NotFittedError: there is nothing to save.
            OSError: the folder cannot be written.
        """
        weight = self.weight
        (directory / SETTINGS).unlink(missing_ok=True)  # half a folder must not pass for a classical method's
        self._atlases.save(directory / ATLASES)
        write_weight(directory, weight, self.about)
        self._classical.save(directory)

    @property
    def weight(self) -> float:
        """Of the atlases, 0 to 1; may be set.

        Raises:
            NotFittedError: neither fitted nor loaded.
        """
        if self._weight is None:
            raise NotFittedError("this segmenter has no atlases yet: call fit(dataset) or load(folder)")
        return self._weight

    @weight.setter
    def weight(self, value: float) -> None:
        self._weight = checked_weight(value)

    @property
    def needs_atlases(self) -> bool:
        """Whether the atlases have a weight; errors as :attr:`weight`."""
        return self.weight > 0

    @property
    def needs_masks(self) -> bool:
        """Whether a scan must come with its mask, as the training scans did."""
        return self._classical.needs_masks

    @property
    def takes_masks(self) -> bool:
        """Always: the method labels inside only."""
        return True

    @property
    def classical(self) -> ClassicalSegmenter:
        """The classical method."""
        return self._classical

    @property
    def atlases(self) -> MultiAtlasSegmenter:
        """The atlases, whose executor, threads and work folder the caller may set."""
        return self._atlases

    def finish(
        self,
        image: MetaTensor,
        found: Propagation | None,
        *,
        probabilities: bool = False,
        mask: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
        corrected: bool = True,
    ) -> Segmentation:
        """As :meth:`CombinedSegmenter.finish`."""
        if found is None or self.weight == 0:
            return self._classical.segment(image, mask=mask, probabilities=probabilities, progress=progress)
        fused = self._atlases.fuse(found, probabilities=True, corrected=corrected, borders=False)
        result = self._classical.segment(
            image,
            mask=mask,
            votes=np.asarray(fused.probabilities),
            weight=self.weight,
            probabilities=probabilities,
            progress=progress,
        )
        if not corrected or not self._atlases.borders:
            return result
        table = self._classical.labels
        labels, chances = keep_slice_borders(
            self._atlases.borders, table.to_indices(result.label_map), result.affine, result.probabilities
        )
        return Segmentation(table.to_values(labels), result.affine, chances)
