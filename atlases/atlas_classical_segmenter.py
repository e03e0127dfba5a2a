"""The :class:`~atlaseg.pipeline.segmenter.Segmenter` of a classical method that atlases tell where structures lie."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas_network_segmenter import ATLASES
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.correction.learn_correction import learns_by_itself
from atlaseg.atlases.multi_atlas_bundle import is_atlas_bundle
from atlaseg.atlases.multi_atlas_segmenter import DEFAULT_FUSION, MultiAtlasSegmenter
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.propagation.selection import spread
from atlaseg.pipeline.classical.classical_bundle import SETTINGS, is_classical_bundle
from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
from atlaseg.pipeline.errors import (
    DatasetError,
    MissingFileError,
    NotFittedError,
    NothingToLearnError,
    OptionError,
)
from atlaseg.pipeline.evaluation.overlap import mean_dice
from atlaseg.pipeline.io.files import read_json, taking_apart, write_text
from atlaseg.pipeline.io.mask import read_mask
from atlaseg.pipeline.io.volume import read_image, read_label_map
from atlaseg.pipeline.progress import Progress
from atlaseg.pipeline.segmenter import Segmentation
from atlaseg.pipeline.slice_borders import keep_slice_borders

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from atlaseg.atlases.propagation.propagation import Propagation
    from atlaseg.pipeline.case import Dataset

__all__ = ["WEIGHT", "WEIGHTS", "AtlasClassicalSegmenter", "is_atlas_classical_bundle"]

#: What a run has more than its two parts.
WEIGHT = Path("configs") / "weight.json"
#: Weights of the atlases among which training chooses.
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Of many training cases, at most so many become atlases by themselves, as beside a network.
MOST_ATLASES = 20
#: So many of them teach the weight, in so many groups: a group is labelled by what has learnt from all other scans.
MOST_SCANS, MOST_GROUPS = 10, 5


def is_atlas_classical_bundle(folder: Path) -> bool:
    """Whether a folder is a finished run of a classical method with its atlases."""
    return (folder / WEIGHT).is_file() and is_classical_bundle(folder) and is_atlas_bundle(folder / ATLASES)


class AtlasClassicalSegmenter:
    """Labels scans by a classical method and atlases together.

    A classical method knows what structures look like, and roughly where they lie
    (:mod:`atlaseg.pipeline.classical.location_prior`). Here atlases are registered to the scan, and their fused votes
    are pooled with that prior (:func:`atlaseg.pipeline.classical.location_prior.pooled`), before anything is
    smoothed. Van Leemput et al., IEEE Transactions on Medical Imaging 18:897-908 (1999), doi:10.1109/42.811270, give
    Gaussian mixtures and Markov random fields a prior of a registered atlas.

    How much the votes weigh is learnt from up to ten training scans: each is labelled by the other atlases, and by a
    method that has not learnt from it.

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
        if atlases is not None and atlases < 2:
            raise OptionError(f"atlases: at least 2, found {atlases}; they are registered to each other")
        self.folder = folder
        self.propagation = propagation or PropagationOptions()
        self._classical = ClassicalSegmenter(method=method, options=options, seed=self.propagation.seed)
        self._atlases = MultiAtlasSegmenter(fusion=fusion, options=self.propagation)
        self.executor, self.work = executor, work
        self.most_atlases = MOST_ATLASES if atlases is None else atlases
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
        masks = everything.masks
        self._weight = None
        self._atlases.fit_atlases(everything.subset(spread(everything.names, self.most_atlases)))
        if not self.keep_borders:
            self._atlases.borders = ()
        self._classical.fit(everything.dataset, masks)
        with TemporaryDirectory() as here:
            # each registration serves weight and correction
            self._atlases.executor, self._atlases.work = self.executor, self.work or Path(here)
            weight = self._asked
            if weight is None:
                weight = self._learn_weight(everything, masks, progress)
            else:
                self.about = {"weight_from": "asked for"}
            self._learn_correction(progress)
        self._atlases.executor = self._atlases.work = None
        self._weight = weight
        if self.folder is not None:
            self.save(self.folder)
        return self

    def _learn_weight(
        self, everything: AtlasSet, masks: Mapping[str, Path] | None, progress: Progress | None
    ) -> float:
        """The weight that labels training scans best, of equals the smallest."""
        taught = spread(self._atlases.atlases.names, MOST_SCANS)
        scores: dict[float, list[float]] = {weight: [] for weight in WEIGHTS}
        groups = [taught[n::MOST_GROUPS] for n in range(min(MOST_GROUPS, len(taught)))]
        done = 0
        for group in groups:
            for image, mask, votes, truth, method in self._without(everything, group, masks):
                if progress is not None:
                    progress(done, len(taught), "learning the weight of the atlases")
                for weight, found in scores.items():
                    labelled = method.segment(image, mask=mask, votes=votes, weight=weight).label_map
                    found.append(mean_dice(method.labels.to_indices(labelled), truth, len(method.labels)))
                done += 1
        means = {weight: float(np.mean(found)) for weight, found in scores.items()}
        self.about = {
            "weight_from": f"{len(taught)} training scans, each labelled by what had not learnt from it",
            "dice_of_weights": {str(weight): round(mean, 5) for weight, mean in means.items()},
        }
        return max(means, key=lambda weight: (round(means[weight], 6), -weight))

    def _without(
        self, everything: AtlasSet, group: Sequence[str], masks: Mapping[str, Path] | None
    ) -> Iterator[tuple[MetaTensor, Any, npt.NDArray[Any], npt.NDArray[Any], ClassicalSegmenter]]:
        """Scan, mask, votes and true channel indices of each case, and the method as it is without all of them."""
        others = [name for name in everything.names if name not in group]
        method = ClassicalSegmenter(
            method=self._classical.method, options=self._classical.settled_options, seed=self.propagation.seed
        )
        some = None if masks is None else {name: masks[name] for name in others}
        try:
            method.fit(everything.dataset.subset(others), some)
        except DatasetError as error:
            raise DatasetError(
                f"{error}, when {', '.join(group)} are held out to learn the weight of the atlases; give a weight "
                "(and a run begun without one another folder)"
            ) from error
        for case in everything.dataset.subset(group).labelled:
            image = read_image(case.images)
            mask = None if masks is None else read_mask(masks[case.name])
            found = self._atlases.propagate(image, mask=mask, without=case.name)
            votes = self._atlases.fuse(found, probabilities=True, corrected=False).probabilities
            label: Any = case.label
            truth = everything.labels.to_indices(read_label_map(label))
            yield image, mask, np.asarray(votes), truth, method

    def _learn_correction(self, progress: Progress | None) -> None:
        asked, number = self.correct, len(self._atlases.atlases)
        if not (learns_by_itself(self._atlases.settings.fusion, number) if asked is None else asked):
            return
        try:
            self._atlases.learn_correction(progress)
        except NothingToLearnError:
            if asked:
                raise

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Open a folder that :meth:`save` wrote; reads numbers, settings and atlases, runs nothing of the folder.

        Raises:
            MissingFileError: the folder is not a finished run.
            UnreadableFileError: a file of it is damaged.
            PlanError, UnsafeModelError: as :meth:`ClassicalSegmenter.load`.
        """
        path = directory / WEIGHT
        if not path.is_file():
            raise MissingFileError(
                f"{directory}: not a finished run of a classical method with atlases (it has no {WEIGHT.as_posix()})"
            )
        with taking_apart(path, "the weight of the atlases"):
            content = read_json(path, dict)
            weight = checked_weight(float(content.pop("weight")))
        segmenter = cls()
        segmenter._classical = ClassicalSegmenter.load(directory)
        segmenter._atlases = MultiAtlasSegmenter.load(directory / ATLASES)
        segmenter._weight, segmenter.about = weight, content
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
        write_text(directory / WEIGHT, json.dumps({"weight": weight, **self.about}, indent=1) + "\n")
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
    def classical(self) -> ClassicalSegmenter:
        """The classical method."""
        return self._classical

    @property
    def atlases(self) -> MultiAtlasSegmenter:
        """The atlases, whose executor, threads and work folder the caller may set."""
        return self._atlases

    def segment(
        self,
        image: MetaTensor,
        *,
        probabilities: bool = False,
        mask: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Label a scan ``(C, *spatial)``.

        Args:
            image: the scan, affine in RAS+ mm.
            probabilities: also return them, ``(K, *spatial)`` float32.
            mask: ``(*spatial)``, not 0 where to segment. Needed where training scans had masks.
            progress: told the number of registrations done and their total, then when the scan is labelled.

        Raises:
            NotFittedError: neither fitted nor loaded.
            AtlasegError: as :meth:`ClassicalSegmenter.segment` and :meth:`MultiAtlasSegmenter.segment`.
        """
        needed = self.weight > 0
        found = self._atlases.propagate(image, mask=mask, progress=progress) if needed else None
        return self.finish(image, found, mask=mask, probabilities=probabilities, progress=progress)

    def finish(
        self,
        image: MetaTensor,
        found: Propagation | None,
        *,
        mask: npt.NDArray[Any] | None = None,
        probabilities: bool = False,
        corrected: bool = True,
        progress: Progress | None = None,
    ) -> Segmentation:
        """The second half of :meth:`segment`, after the registrations.

        Args:
            image: the scan.
            found: its atlases, as ``self.atlases.propagate(image)`` gives them; ``None`` where they have no weight.
            mask: as of :meth:`segment`.
            probabilities: also return them.
            corrected: by what was learnt from all atlases (correction and slice borders), which must not be on an
                atlas' own scan.
            progress: told when the scan is labelled.
        """
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


def checked_weight(weight: float) -> float:
    """The weight.

    Raises:
        OptionError: it is not between 0 and 1.
    """
    if not 0 <= weight <= 1:
        raise OptionError(f"the weight of the atlases must be at least 0 and at most 1, found {weight}")
    return weight
