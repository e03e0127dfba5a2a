"""Train a network together with atlases: what is made from the training cases, in which order, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.atlases.combined.chosen_atlases import chosen_atlases, refuse_too_few
from atlaseg.atlases.combined.combination import DEFAULT_WEIGHT, Combination, Kind
from atlaseg.atlases.combined.combined_bundle import ATLASES, write_combination
from atlaseg.atlases.combined.weight_learning import weight_beside_network
from atlaseg.atlases.fusion.registry import DEFAULT_FUSION
from atlaseg.atlases.multi_atlas_bundle import is_atlas_bundle
from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.atlases.network_training.prior import FusedPrior, write_priors
from atlaseg.atlases.network_training.pseudo_labels import PseudoCase, write_pseudo_labels
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.pipeline.bundle import MadeFiles, holds_another_run, render_bundle
from atlaseg.pipeline.errors import DatasetError, OptionError
from atlaseg.pipeline.progress import Progress

if TYPE_CHECKING:
    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.network_training.anatomical_augmentation import WarpedCase
    from atlaseg.pipeline.case import Case, Dataset
    from atlaseg.pipeline.planning.plan import Plan

__all__ = ["JoinedOptions", "held_out", "train_joined"]


@dataclass(frozen=True)
class JoinedOptions:
    """Options of a network that is combined with atlases.

    Args:
        propagation: registration of the atlases.
        fusion: name of the rule that fuses their labels.
        atlases: how many training cases become atlases, spread evenly over the names; ``None``: all, but at most 20.
            Each is registered to each training scan and, later, to each new one.
        prior: whether the fused votes are input of the network.
        warped: how many atlases, warped onto each other, it trains with; ``n`` atlases make ``n (n - 1)`` pairs.
        correct: whether the fusion learns a correction, for its part in the combination; ``None``: with few atlases.
        borders: whether borders that raters drew along a slice are drawn so (:mod:`atlaseg.pipeline.slice_borders`).
        combine: how the probabilities of network and atlases are joined in the end.
        weight: of the atlases there; ``None``: learnt from held-out cases, where there are any.
    """

    propagation: PropagationOptions = field(default_factory=PropagationOptions)
    fusion: str = DEFAULT_FUSION
    atlases: int | None = None
    prior: bool = False
    warped: int = 0
    correct: bool | None = None
    borders: bool = True
    combine: Kind = "ensemble"
    weight: float | None = None

    def __post_init__(self) -> None:
        refuse_too_few(self.atlases)
        if self.warped < 0:
            raise OptionError(f"warped scans: at least 0, found {self.warped}")
        if self.weight is not None:
            if self.combine == "none":
                raise OptionError("a weight of the atlases has no effect where they are not combined")
            Combination(self.combine, self.weight)

    def atlases_among(self, cases: Sequence[Case]) -> list[Case]:
        """The training cases that become atlases, in their order."""
        return chosen_atlases(cases, self.atlases)


def held_out(dataset: Dataset) -> tuple[list[Case], list[Case]]:
    """Labelled cases to train on, and every fifth by name (one of fewer) to be held out.

    Raises:
        DatasetError: fewer than three cases have labels.
    """
    labelled = list(dataset.labelled)
    if len(labelled) < 3:
        raise DatasetError(
            f"{dataset.name}: {len(labelled)} labelled cases; one is held out and two are needed as atlases"
        )
    kept = labelled[4::5] or labelled[-1:]
    return [case for case in labelled if case not in kept], kept


def train_joined(
    folder: Path,
    dataset: Dataset,
    training: Sequence[Case],
    validation: Sequence[Case],
    options: JoinedOptions,
    *,
    make_plan: Callable[[Dataset], Plan] | None = None,
    atlases: AtlasSet | None = None,
    dataset_dir: Path | None = None,
    device: str = "auto",
    tracking: str = "none",
    unlabelled: Mapping[str, tuple[Path, ...]] | None = None,
    executor: Executor | None = None,
    work: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Train a network together with atlases in a run's folder; the same call resumes after an interruption.

    Priors of training cases are leave-one-out, and so is the correction; a validation case that is also a training
    case gets the prior without itself, and never takes part in learning the weight of the atlases.

    Args:
        folder: of the run.
        dataset: that the cases come from.
        training: cases to learn from; the atlases are among them.
        validation: cases that training reports on.
        options: what is joined, and how.
        make_plan: plans the network for the training cases; by default
            :func:`atlaseg.pipeline.planning.rules.plan_for`, with the prior and warped scans that the options ask for.
        atlases: the training cases as atlases, with masks and landmarks if they have any, those that the options do
            not choose included; by default made of the cases.
        dataset_dir: folder of the data set; by default the deepest that holds all files of the cases.
        device: of the network.
        tracking: ``mlflow`` or ``none``.
        unlabelled: further scans, name -> files, which the atlases label for the network to learn from.
        executor: runs one registration per task; ``None``: here, one after the other.
        work: folder for finished registrations; by default ``.registrations`` in the run's.
        progress: called with the current step.

    Raises:
        OptionError: an option is not possible, or the folder holds another run.
        AtlasegError: a file is not as it must be, or training stopped.
    """
    from atlaseg.pipeline.network_segmenter import common_folder, run_training

    work = work or folder / ".registrations"
    job = _Job(folder, work, dataset, list(training), list(validation), options, progress or _silent)
    plan = (make_plan or _planner(options))(dataset.subset([case.name for case in training]))
    job.check(plan)  # before hours of registration
    segmenter = job.atlases(atlases, executor)
    made = job.made_files(segmenter, unlabelled or {})
    files = [file for case in (*training, *validation) for file in case.files]
    home = dataset_dir or common_folder(files) or folder
    if holds_another_run(plan, folder, training, validation, home, made):
        raise OptionError(f"{folder}: holds another run (its plan or its cases differ); give another folder")
    render_bundle(plan, folder, training, validation, home, made)
    run_training(folder, home, tracking, device, unlabelled_dir=made.scans)
    combination, about = job.combination(segmenter, device)
    write_combination(folder, combination, about)


def _silent(*_: Any) -> None:
    """Report no progress."""


def _planner(options: JoinedOptions) -> Callable[[Dataset], Plan]:
    def plan(dataset: Dataset) -> Plan:
        from atlaseg.pipeline.planning.rules import plan_for

        return plan_for(dataset, prior=options.prior, versions=options.warped)

    return plan


@dataclass(frozen=True)
class _Job:
    folder: Path
    work: Path  # finished registrations, which priors, correction and warped scans share
    dataset: Dataset
    training: list[Case]
    validation: list[Case]
    options: JoinedOptions
    progress: Progress

    @property
    def members(self) -> list[Case]:
        """Training cases that are atlases."""
        return self.options.atlases_among(self.training)

    @property
    def held_out(self) -> list[Case]:
        """Validation cases from which nothing is learnt."""
        names = {case.name for case in self.training}
        return [case for case in self.validation if case.name not in names]

    def atlases(self, atlases: AtlasSet | None, executor: Executor | None) -> MultiAtlasSegmenter:
        """The atlases, in the run's folder."""
        home = self.folder / ATLASES
        if not is_atlas_bundle(home):
            self._put_together(home, atlases, executor)
        # the copies, also the first time: what is made of them is made of the same files when the job resumes
        return MultiAtlasSegmenter.load(home, executor=executor, work=self.work)

    def _put_together(self, home: Path, atlases: AtlasSet | None, executor: Executor | None) -> None:
        from atlaseg.atlases.atlas_set import AtlasSet

        segmenter = MultiAtlasSegmenter(
            fusion=self.options.fusion, options=self.options.propagation, executor=None, work=self.work
        )
        names = [case.name for case in self.members]
        known = (
            AtlasSet.from_dataset(self.dataset.subset(names)) if atlases is None else atlases.subset(names)
        )
        segmenter.fit_atlases(known)
        if not self.options.borders:
            segmenter.borders = ()
        segmenter.executor = executor
        if (
            self.options.correct is not None or self.options.combine != "none"
        ):  # otherwise nobody hears the votes
            segmenter.learn_correction_if_due(self.options.correct, self.progress)
        segmenter.executor = None  # copying needs no processes
        segmenter.save(home)

    def made_files(
        self, segmenter: MultiAtlasSegmenter, unlabelled: Mapping[str, tuple[Path, ...]]
    ) -> MadeFiles:
        """Priors and warped scans, in the run's folder."""
        priors: dict[str, Path] = {}
        if self.options.prior:
            members = {case.name for case in self.members}
            priors = write_priors(
                self.members,
                FusedPrior(segmenter),
                self.folder / "priors",
                labels=self.dataset.labels,
                settings=segmenter.settings.as_dict(),
                progress=self.progress,
                others=[*(c for c in self.training if c.name not in members), *self.held_out],
            )
        pseudo: list[PseudoCase] = []
        if unlabelled:
            pseudo = write_pseudo_labels(
                segmenter,
                unlabelled,
                self.folder / "unlabelled",
                with_prior=self.options.prior,
                progress=self.progress,
            )
        from atlaseg.pipeline.network_segmenter import common_folder

        scans = common_folder([path for files in unlabelled.values() for path in files])
        return MadeFiles(self.folder, priors, self._warped(segmenter, priors), pseudo, scans)

    def _warped(self, segmenter: MultiAtlasSegmenter, priors: dict[str, Path]) -> list[WarpedCase]:
        from atlaseg.atlases.network_training.anatomical_augmentation import write_warped_cases

        if not self.options.warped:
            return []
        warped = write_warped_cases(
            segmenter.atlases,
            self.folder / "warped",
            segmenter.settings.propagation,
            priors=priors or None,
            count=self.options.warped,
            executor=segmenter.executor,
            work=self.work,
            seed=segmenter.settings.propagation.seed,
            progress=self.progress,
        )
        if not warped:
            raise DatasetError(
                f"{self.dataset.name}: no training scan could be warped onto another (see the log); set warped to 0"
            )
        return warped

    def check(self, plan: Plan) -> None:
        """Refuse a plan that does not go with the options.

        Raises:
            OptionError: see above.
        """
        if (plan.prior.source == "atlases") != self.options.prior:
            raise OptionError(
                f"the plan's prior is {plan.prior.source}, which is not what was asked for beside it; set "
                f"prior.source={'atlases' if self.options.prior else 'none'}"
            )
        if plan.augmentation.anatomical_probability > 0 and not self.options.warped:
            raise OptionError(
                "the plan's augmentation.anatomical_probability is not 0, but no training scan is warped; set it to 0"
            )

    def combination(self, segmenter: MultiAtlasSegmenter, device: str) -> tuple[Combination, dict[str, Any]]:
        """The combination of network and atlases, and how its weight was learnt."""
        from atlaseg.pipeline.network_segmenter import NetworkSegmenter

        kind, weight = self.options.combine, self.options.weight
        if kind == "none" or weight is not None:
            return Combination(kind, weight or 0.0), {"weight_from": "asked for"}
        if not self.held_out:
            return Combination(kind, DEFAULT_WEIGHT[kind]), {
                "weight_from": "no case was held out to learn it from: the default"
            }
        network = NetworkSegmenter.load(self.folder, device=device)
        learnt = weight_beside_network(
            kind, network, segmenter, self.held_out, self.dataset.labels, self.progress
        )
        return Combination(kind, learnt.weight), learnt.about
