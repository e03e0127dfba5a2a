"""The :class:`~atlaseg.pipeline.segmenter.Segmenter` that combines a network with atlases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.combined.combination import Combination
from atlaseg.atlases.combined.combined_bundle import ATLASES, read_combination, write_combination
from atlaseg.atlases.combined.combined_segmenter import CombinedSegmenter
from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.pipeline.errors import NotFittedError, OptionError
from atlaseg.pipeline.network_segmenter import NetworkSegmenter
from atlaseg.pipeline.progress import Progress
from atlaseg.pipeline.segmenter import Segmentation, refuse_mask
from atlaseg.pipeline.slice_borders import keep_slice_borders

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from atlaseg.atlases.network_training.joined_training import JoinedOptions
    from atlaseg.atlases.propagation.propagation import Propagation
    from atlaseg.pipeline.case import Case, Dataset
    from atlaseg.pipeline.planning.plan import Plan

__all__ = ["AtlasNetworkSegmenter"]


class AtlasNetworkSegmenter(CombinedSegmenter):
    """Segments scans with a network combined with atlases.

    Atlases are registered to the scan once. Their fused votes enter the network as further channels, if it learnt with
    them, and its probabilities are joined with theirs in the end by a
    :class:`~atlaseg.atlases.combined.combination.Combination`.

    Args:
        folder: of the run: where :meth:`fit` works. Not needed to :meth:`load`.
        options: of training; see :class:`atlaseg.atlases.network_training.joined_training.JoinedOptions`.
        make_plan: plans the network; by default chosen from the data set by
            :func:`atlaseg.pipeline.planning.rules.plan_for`.
        device: of the network: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        tta: test-time augmentation of the network; ``None`` as its plan says.
    """

    def __init__(
        self,
        folder: Path | None = None,
        options: JoinedOptions | None = None,
        make_plan: Callable[[Dataset], Plan] | None = None,
        *,
        device: str = "auto",
        tta: bool | None = None,
    ) -> None:
        self.folder = folder
        self.options = options
        self.make_plan = make_plan
        self.device = device
        self.tta = tta
        self.combination = Combination()
        self._network: NetworkSegmenter | None = None
        self._atlases: MultiAtlasSegmenter | None = None

    def fit(self, dataset: Dataset) -> Self:
        """Train on the labelled cases, of which every fifth by name is kept back to learn the weight of the atlases.

        Raises:
            OptionError: no folder was given.
            DatasetError: fewer than three cases have labels.
        """
        from atlaseg.atlases.network_training.joined_training import held_out

        return self.fit_split(dataset, *held_out(dataset))

    def fit_split(self, dataset: Dataset, training: Sequence[Case], validation: Sequence[Case]) -> Self:
        """Train on given cases; resumes an interrupted call.

        Raises:
            OptionError: no folder was given, or it holds a run with another plan or other cases.
        """
        from atlaseg.atlases.network_training.joined_training import JoinedOptions, train_joined

        if self.folder is None:
            raise OptionError("give the folder to train in: AtlasNetworkSegmenter(folder=...)")
        train_joined(
            self.folder,
            dataset,
            training,
            validation,
            self.options or JoinedOptions(),
            make_plan=self.make_plan,
            device=self.device,
        )
        return self._open(self.folder)

    @classmethod
    def load(cls, directory: Path, *, device: str = "auto", tta: bool | None = None) -> Self:
        """Open a run; reads plan, weights and atlases, runs nothing of the folder.

        Raises:
            MissingFileError: the folder is not a finished run.
            UnreadableFileError: a file of it is damaged.
            UnsafeModelError: plan or weights hold something that would run as code.
        """
        return cls(directory, device=device, tta=tta)._open(directory)

    def _open(self, folder: Path) -> Self:
        self.combination = read_combination(folder)
        self._network = NetworkSegmenter.load(folder, device=self.device)
        self._atlases = MultiAtlasSegmenter.load(folder / ATLASES)
        return self

    @property
    def network(self) -> NetworkSegmenter:
        """The network.

        Raises:
            NotFittedError: neither fitted nor loaded.
        """
        if self._network is None:
            raise NotFittedError("this segmenter has no network yet: call fit(dataset) or load(folder)")
        return self._network

    @property
    def atlases(self) -> MultiAtlasSegmenter:
        """The atlases, whose executor, threads and work folder the caller may set.

        Raises:
            NotFittedError: neither fitted nor loaded.
        """
        if self._atlases is None:
            raise NotFittedError("this segmenter has no atlases yet: call fit(dataset) or load(folder)")
        return self._atlases

    @property
    def weight(self) -> float:
        """Of the atlases in the combination; may be set."""
        return self.combination.weight

    @weight.setter
    def weight(self, value: float) -> None:
        self.combination = replace(self.combination, weight=value)

    @property
    def needs_atlases(self) -> bool:
        """Whether the atlases contribute to the labels of a scan, and not only to training."""
        return self.combination.needs_atlases or self.network.fitted_plan.prior_channels > 0

    @property
    def needs_masks(self) -> bool:
        """Never: a network learns from whole scans."""
        return False

    @property
    def takes_masks(self) -> bool:
        """Whether there are atlases to be registered inside the mask."""
        return self.needs_atlases

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
        """As :meth:`CombinedSegmenter.finish`; a mask has done its part by then, or is refused."""
        from atlaseg.atlases.network_training.prior import prior_of

        if found is None:
            refuse_mask(mask, "a network whose atlases have no weight")
        plan = self.network.fitted_plan
        prior = prior_of(self.atlases, found, image) if found is not None and plan.prior_channels else None
        joins = self.combination.needs_atlases and found is not None
        result = self.network.segment(
            image, prior=prior, tta=self.tta, probabilities=probabilities or joins, progress=progress
        )
        chances: Any = result.probabilities
        labels = plan.labels.to_indices(result.label_map)
        if joins and found is not None:
            votes = self.atlases.fuse(found, probabilities=True, corrected=corrected, borders=False)
            chances = self.combination.apply(np.asarray(chances), np.asarray(votes.probabilities))
            labels = chances.argmax(axis=0)
        if corrected and self.atlases.borders:
            labels, chances = keep_slice_borders(self.atlases.borders, labels, result.affine, chances)
        return Segmentation(plan.labels.to_values(labels), result.affine, chances if probabilities else None)

    def save(self, directory: Path) -> None:
        """Copy the run (configs, weights and atlases, not the training state) into a folder.

        Raises:
            NotFittedError: there is nothing to save.
        """
        network, atlases = self.network, self.atlases
        network.save(directory)
        atlases.save(directory / ATLASES)
        write_combination(directory, self.combination)
