"""The segmenter of every classical method: learns names and places, or the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt

from atlaseg.pipeline.classical.choosing import choose_options
from atlaseg.pipeline.classical.classical_bundle import ClassicalSettings, read_bundle, write_bundle
from atlaseg.pipeline.classical.learning import Learnt, label_scan, learn
from atlaseg.pipeline.classical.location_prior import LocationPrior
from atlaseg.pipeline.classical.registry import make_method
from atlaseg.pipeline.classical.training_scans import TrainingScans, scan_with_prior
from atlaseg.pipeline.errors import NotFittedError, OptionError
from atlaseg.pipeline.progress import Progress
from atlaseg.pipeline.segmenter import Segmentation, refuse_other_channels

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from atlaseg.pipeline.case import Dataset, LabelTable
    from atlaseg.pipeline.segmenter import Prior

__all__ = ["ClassicalSegmenter"]


class ClassicalSegmenter:
    """Labels scans by one of the methods of :data:`atlaseg.pipeline.classical.registry.CLASSICAL_METHODS`.

    Every method is given the same two things that labelled scans teach: what structures look like
    (:mod:`atlaseg.pipeline.classical.naming`, or the method's own training) and where they lie
    (:mod:`atlaseg.pipeline.classical.location_prior`, or an external prior).

    Args:
        folder: where :meth:`fit` writes a bundle, as :meth:`save` does; ``None``: nothing is written.
        method: name of the method.
        options: of the method; those that are not given keep their defaults, or are chosen by training
            (:mod:`atlaseg.pipeline.classical.choosing`).
        prior: takes the place of the location prior, such as one made of registered atlases.
        seed: of everything random in learning.

    Raises:
        OptionError: there is no such method or option.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        method: str = "gmm",
        options: Mapping[str, Any] | None = None,
        prior: Prior | None = None,
        seed: int = 0,
    ) -> None:
        self.folder = folder
        self.method = method
        self.options = self._chosen = make_method(method, options)
        self.prior = prior
        self.seed = seed
        self._settings: ClassicalSettings | None = None
        self._learnt: Learnt | None = None

    def fit(self, dataset: Dataset, masks: Mapping[str, Path] | None = None) -> Self:
        """Learn from the labelled cases of a data set; the others are left out.

        Args:
            dataset: the data set.
            masks: file of each labelled case's mask, if they have masks; scans need theirs then, too.

        Raises:
            DatasetError: no case is labelled, a label map is empty, a structure has no voxel in any of them, or a scan
                is constant or not finite.
            MissingFileError: some cases have a mask and others have none.
            AtlasegError: a file cannot be read, or its grid is not the scan's.
        """
        cases = TrainingScans(dataset, masks)
        cases.refuse_missing_structures()
        number, masked = len(dataset.labels), bool(masks)
        self._chosen = choose_options(
            self.options, cases.scans, cases.labels, number, masked=masked, seed=self.seed
        )
        location = None
        if self.prior is None:
            location = LocationPrior.learn(cases.scans, cases.labels, number, masked=masked)
        self._learnt = learn(
            self.method, self._chosen, cases.scans, cases.labels, number, location, seed=self.seed
        )
        self._settings = ClassicalSettings(
            method=self.method,
            options=self._spelled_out(),
            labels=dataset.labels,
            channels=dataset.channels,
            masked=masked,
            own_prior=location is not None,
            cases=len(cases.scans),
            seed=self.seed,
        )
        if self.folder is not None:
            self.save(self.folder)
        return self

    def _spelled_out(self) -> dict[str, Any]:
        return {field.name: getattr(self._chosen, field.name) for field in fields(self._chosen) if field.init}

    @property
    def settled_options(self) -> dict[str, Any]:
        """All options with their values, those that training chose among them.

        Raises:
            NotFittedError: neither fitted nor loaded.
        """
        self._fitted()
        return self._spelled_out()

    @property
    def chosen(self) -> dict[str, Any]:
        """Options that were unset, with the values that training chose.

        Raises:
            NotFittedError: neither fitted nor loaded.
        """
        return {
            name: value
            for name, value in self.settled_options.items()
            if value != getattr(self.options, name)
        }

    @classmethod
    def load(cls, directory: Path, *, prior: Prior | None = None) -> Self:
        """Open a folder that :meth:`save` wrote; reads numbers and settings, runs nothing of the folder.

        Args:
            directory: the folder.
            prior: takes the place of the location prior; it must be given where :meth:`fit` had one.

        Raises:
            MissingFileError, PlanError, UnreadableFileError, UnsafeModelError: as
                :func:`atlaseg.pipeline.classical.classical_bundle.read_bundle`.
            OptionError: the segmenter was fitted with an external prior, and none is given.
        """
        settings, arrays = read_bundle(directory)
        if prior is None and not settings.own_prior:
            raise OptionError(f"{directory}: was fitted with an external prior; give it (prior=)")
        segmenter = cls(method=settings.method, options=settings.options, prior=prior, seed=settings.seed)
        segmenter._settings = settings
        segmenter._learnt = Learnt.from_arrays(arrays, settings, str(directory))
        return segmenter

    def save(self, directory: Path) -> None:
        """Write a bundle folder.

        Raises:
            NotFittedError: there is nothing to save.
            OSError: the folder cannot be written.
        """
        settings, learnt = self._fitted()
        write_bundle(directory, settings, learnt.arrays())

    @property
    def labels(self) -> LabelTable:
        """Label values and names.

        Raises:
            NotFittedError: neither fitted nor loaded.
        """
        return self._fitted()[0].labels

    @property
    def channels(self) -> tuple[str, ...]:
        """Name of each channel; errors as :attr:`labels`."""
        return self._fitted()[0].channels

    @property
    def needs_masks(self) -> bool:
        """Whether a scan must come with its mask, as the training scans did; errors as :attr:`labels`."""
        return self._fitted()[0].masked

    def _fitted(self) -> tuple[ClassicalSettings, Learnt]:
        if self._settings is None or self._learnt is None:
            raise NotFittedError("this segmenter is not fitted yet: call fit(dataset) or load(folder)")
        return self._settings, self._learnt

    def segment(
        self,
        image: MetaTensor,
        *,
        probabilities: bool = False,
        mask: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
        votes: npt.NDArray[Any] | None = None,
        weight: float = 1.0,
    ) -> Segmentation:
        """Label a scan ``(C, *spatial)``.

        Args:
            image: the scan, affine in RAS+ mm.
            probabilities: also return them, ``(K, *spatial)`` float32.
            mask: ``(*spatial)``, not 0 where to segment; outside is background. Needed where training scans had masks.
            progress: told when the scan is labelled; there are no steps between.
            votes: probabilities ``(K, *spatial)`` that atlases give this scan, which the location prior is pooled with
                (:func:`atlaseg.pipeline.classical.location_prior.pooled`).
            weight: of the votes, 0 (as if there were none) to 1 (instead of the location prior).

        Raises:
            NotFittedError: neither fitted nor loaded.
            GeometryError: the scan has other channels than the training scans, or the mask another shape.
            DatasetError: the scan is constant or not finite, or the mask is empty.
            OptionError: the mask is missing, votes come beside an external prior, or the weight is not possible.
        """
        settings, learnt = self._fitted()
        refuse_other_channels(image, settings.channels)
        if settings.masked and mask is None:
            raise OptionError("the training scans had masks, so this scan needs its own: give it (--masks)")
        if votes is not None and self.prior is not None:
            raise OptionError(
                "this segmenter has an external prior; votes of atlases cannot be combined with it"
            )
        scan = scan_with_prior(image, mask, len(settings.labels), learnt.location, self.prior, votes, weight)
        labels, chances = label_scan(self.method, self._chosen, scan, learnt)
        if progress is not None:
            progress(1.0, 1.0, "labelling")
        return Segmentation(
            settings.labels.to_values(labels), scan.affine, chances if probabilities else None
        )
