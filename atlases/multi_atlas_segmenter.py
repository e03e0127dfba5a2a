"""Multi-atlas segmentation: register atlases to a scan, propagate their labels and fuse them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.correction.correction import Correction
from atlaseg.atlases.correction.learn_correction import learn_correction, learns_by_itself
from atlaseg.atlases.fusion.registry import DEFAULT_FUSION, FUSION_RULES, make_rule
from atlaseg.atlases.multi_atlas_bundle import MultiAtlasSettings, read_bundle, write_bundle
from atlaseg.atlases.propagation.propagation import Propagation, PropagationOptions, propagate
from atlaseg.pipeline.errors import NotFittedError, NothingToLearnError
from atlaseg.pipeline.io.volume import read_header, read_label_map
from atlaseg.pipeline.progress import Progress
from atlaseg.pipeline.segmenter import Segmentation, refuse_other_channels
from atlaseg.pipeline.slice_borders import SliceBorder, find_slice_borders, keep_slice_borders

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from atlaseg.pipeline.case import Dataset

__all__ = ["DEFAULT_FUSION", "MultiAtlasSegmenter"]


class MultiAtlasSegmenter:
    """Segments scans by registering labelled ones to them; nothing is trained.

    Iglesias and Sabuncu, Medical Image Analysis 24:205-219 (2015), doi:10.1016/j.media.2015.06.012, is a survey of
    the method.

    Args:
        folder: where :meth:`fit` writes a bundle, as :meth:`save` does; ``None``: nothing is written, and the files
            of the data set are read whenever a scan is segmented.
        fusion: name of the rule in :data:`atlaseg.atlases.fusion.registry.FUSION_RULES`.
        options: selection, registration and quality control; by default chosen from the data.
        fusion_options: of the rule; those that are not given keep their defaults.
        executor: runs one registration per task; ``None``: here, one after the other.
        work: folder that keeps finished registrations, so that an interrupted job resumes.
        threads: of each registration, at most.

    Raises:
        OptionError: there is no such rule, or it has no such option.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        fusion: str = DEFAULT_FUSION,
        options: PropagationOptions | None = None,
        fusion_options: Mapping[str, Any] | None = None,
        executor: Executor | None = None,
        work: Path | None = None,
        threads: int = 1,
    ) -> None:
        rule = make_rule(fusion, **(fusion_options or {}))
        self.folder = folder
        self.settings = MultiAtlasSettings(
            FUSION_RULES.find(fusion).name, rule, options or PropagationOptions()
        )
        self.executor = executor
        self.work = work
        self.threads = threads
        self._atlases: AtlasSet | None = None
        self._source: Path | None = None
        self._correction: Correction | None = None
        #: Borders that the atlases' raters drew along a slice; known once there are atlases.
        self.borders: tuple[SliceBorder, ...] = ()

    def fit(self, dataset: Dataset) -> Self:
        """Check the labelled cases of a data set and take them as atlases; the others are left out.

        Raises:
            DatasetError: no case is labelled.
            AtlasegError: a file is not as it must be (:meth:`AtlasSet.check`).
            OptionError: an engine lacks what the options ask for.
        """
        return self.fit_atlases(AtlasSet.from_dataset(dataset))

    def fit_atlases(self, atlases: AtlasSet) -> Self:
        """As :meth:`fit`, for a set that may have masks and landmarks too."""
        self.settings.propagation.steps()  # what no engine can do is better known now than at the first scan
        atlases.check(executor=self.executor)
        self._atlases, self._source, self._correction = atlases, None, None
        self.borders = find_slice_borders(_label_maps(atlases), len(atlases.labels))
        if self.folder is not None:
            self.save(self.folder)
            self._atlases, self._source = AtlasSet.load(self.folder / "atlases"), self.folder
        return self

    def learn_correction(self, progress: Progress | None = None) -> Self:
        """Learn the systematic errors of fusion from the atlases, each segmented by the others; returns itself.

        Scans are then labelled with the correction (:class:`atlaseg.atlases.correction.correction.Correction`);
        priors are not, because a correction has seen the labels of all atlases. It takes ``n (n - 1)`` registrations
        for ``n`` atlases, ``20 (n - 1)`` for more than 20.

        Args:
            progress: told the number of atlases done and their total.

        Raises:
            NotFittedError: neither fitted nor loaded.
            DatasetError: fewer than four atlases.
            NothingToLearnError: the fused votes were never close.
            AtlasegError: as :meth:`segment`.
        """
        self._correction = learn_correction(
            self.atlases,
            self.settings.propagation,
            self.settings.rule,
            executor=self.executor,
            work=self.work,
            threads=self.threads,
            progress=progress,
        )
        self._source = None
        return self

    def learn_correction_if_due(self, asked: bool | None, progress: Progress | None = None) -> Self:
        """Learn a correction on request, or by default for few atlases; returns itself.

        Args:
            asked: whether to learn one; ``None`` where nobody has said
                (:func:`atlaseg.atlases.correction.learn_correction.learns_by_itself`): atlases that leave nothing to be
                corrected are no error then.
            progress: as of :meth:`learn_correction`.

        Raises:
            AtlasegError: as :meth:`learn_correction`.
        """
        if asked is None and not learns_by_itself(self.settings.fusion, len(self.atlases)):
            return self
        if asked is not False:
            try:
                self.learn_correction(progress)
            except NothingToLearnError:
                if asked:
                    raise
        return self

    @property
    def is_corrected(self) -> bool:
        """Whether scans are labelled with a correction."""
        return self._correction is not None

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        executor: Executor | None = None,
        work: Path | None = None,
        threads: int = 1,
    ) -> Self:
        """Open a folder that :meth:`save` wrote; reads settings and atlases, runs nothing of the folder.

        Raises:
            MissingFileError, PlanError, DatasetError, UnreadableFileError, OptionError: as
                :func:`atlaseg.atlases.multi_atlas_bundle.read_bundle`.
        """
        settings, atlases, correction, borders = read_bundle(directory)
        segmenter = cls(fusion=settings.fusion, executor=executor, work=work, threads=threads)
        segmenter.settings, segmenter._atlases, segmenter._source = settings, atlases, directory
        segmenter._correction = correction
        segmenter.borders = borders
        return segmenter

    def choose(self, *, fusion: str | None = None, **options: Any) -> Self:
        """Change settings of a segmenter, fitted or not; returns itself.

        A correction is forgotten where a setting changes: it knows the errors of the old ones.

        Args:
            fusion: name of another rule, which comes with its default options.
            options: fields of :class:`~atlaseg.atlases.propagation.propagation.PropagationOptions`.

        Raises:
            OptionError: there is no such rule, or an option is not possible.
        """
        settings = self.settings
        name = settings.fusion if fusion is None else FUSION_RULES.find(fusion).name
        if name != settings.fusion:
            settings = replace(settings, fusion=name, rule=make_rule(name))
        settings = replace(settings, propagation=replace(settings.propagation, **options))
        settings.propagation.steps()  # refuses what no engine has
        if settings != self.settings:
            self._correction = None
        self.settings = settings
        return self

    def save(self, directory: Path) -> None:
        """Write a bundle folder with a copy of the atlases.

        Raises:
            NotFittedError: there is nothing to save.
            DatasetError: the folder holds atlases of another set.
            OSError: the folder cannot be written.
        """
        atlases = self.atlases
        if self._source is not None and directory.resolve() == self._source.resolve():
            return
        write_bundle(
            directory, self.settings, atlases, self._correction, self.borders, executor=self.executor
        )

    @property
    def atlases(self) -> AtlasSet:
        """The atlases.

        Raises:
            NotFittedError: neither fitted nor loaded.
        """
        if self._atlases is None:
            raise NotFittedError("this segmenter has no atlases yet: call fit(dataset) or load(folder)")
        return self._atlases

    def segment(
        self,
        image: MetaTensor,
        *,
        probabilities: bool = False,
        mask: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
        without: str | None = None,
    ) -> Segmentation:
        """Label a scan ``(C, *spatial)``.

        Args:
            image: the scan, affine in RAS+ mm.
            probabilities: also return them, ``(K, *spatial)`` float32.
            mask: ``(*spatial)``, not 0 where the scan is to be registered.
            progress: told the number of registrations done and their total.
            without: name of an atlas that must not take part.

        Raises:
            NotFittedError: neither fitted nor loaded.
            GeometryError: the scan has other channels than the atlases, or overlaps with none.
            DatasetError: the scan is constant or not finite, or there is no atlas left.
            RegistrationError: no atlas could be registered.
        """
        found = self.propagate(image, mask=mask, without=without, progress=progress)
        return self.fuse(found, probabilities=probabilities, corrected=without is None)

    def propagate(
        self,
        image: MetaTensor,
        *,
        mask: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
        without: str | None = None,
    ) -> Propagation:
        """The first half of :meth:`segment`: atlases on the grid of a scan, each with its quality."""
        atlases = self.atlases if without is None else self.atlases.without(without)
        refuse_other_channels(image, atlases.channels)
        return propagate(
            atlases,
            image,
            self.settings.propagation,
            mask=mask,
            executor=self.executor,
            work=self.work,
            threads=self.threads,
            progress=progress,
        )

    def fuse(
        self,
        propagation: Propagation,
        *,
        probabilities: bool = False,
        corrected: bool = True,
        borders: bool = True,
    ) -> Segmentation:
        """The second half of :meth:`segment`.

        Args:
            propagation: what :meth:`propagate` found.
            probabilities: also return them.
            corrected: by what was learnt from all atlases (correction and slice borders), which must not be on an
                atlas' own scan.
            borders: by the slice borders too.
        """
        correction = self._correction if corrected else None
        fused = self.settings.rule.fuse(
            propagation.candidates(), probabilities=probabilities or correction is not None
        )
        labels, chances = fused.labels, fused.probabilities
        if correction is not None:
            chances = correction.apply(np.asarray(chances), propagation.target)
            labels = chances.argmax(axis=0)
        if corrected and borders and self.borders:
            labels, chances = keep_slice_borders(self.borders, labels, propagation.affine, chances)
        label_map = self.atlases.labels.to_values(labels)
        return Segmentation(label_map, propagation.affine, chances if probabilities else None)

    def segment_case_without(self, name: str, *, probabilities: bool = False) -> Segmentation:
        """Label an atlas' own scan by the other atlases (leave-one-out).

        Raises:
            DatasetError: there is no such atlas, or no other.
            AtlasegError: as :meth:`segment`.
        """
        from atlaseg.pipeline.io.volume import read_image

        others = self.atlases.without(name)  # refuses unknown names before a file is read
        case = next(atlas for atlas in self.atlases.atlases if atlas.name not in others.names)
        return self.segment(read_image(case.images), without=name, probabilities=probabilities)

    def propagate_probabilities(self, image: MetaTensor, without: str | None = None) -> MetaTensor:
        """Fused label probabilities ``(K, *spatial)`` float32 on the grid of a scan, summing to one over ``K``.

        They are those of the rule, without a correction, so that they have one quality with and without an atlas.

        Args:
            image: the scan ``(C, *spatial)``, affine in RAS+ mm.
            without: name of the atlas that must not take part, being the scan itself.

        Raises:
            AtlasegError: as :meth:`segment`.
        """
        import torch
        from monai.data import MetaTensor

        found = self.propagate(image, without=without)
        chances: Any = self.fuse(found, probabilities=True, corrected=False).probabilities
        return MetaTensor(
            torch.from_numpy(np.ascontiguousarray(chances, dtype=np.float32)), affine=image.affine.clone()
        )


def _label_maps(atlases: AtlasSet) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.float64]]]:
    """Channel indices and affine of each atlas."""
    for atlas in atlases.atlases:
        indices = atlases.labels.to_indices(read_label_map(atlas.label))
        yield indices.astype(np.min_scalar_type(len(atlases.labels) - 1)), read_header(atlas.label).affine
