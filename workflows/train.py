"""``atlaseg train``: a data set in, a trained bundle folder out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from atlaseg.pipeline.schema import Count, Positive, Seed, Share, Whole

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Case, Dataset
    from atlaseg.pipeline.datasets.inspection import Inspection
    from atlaseg.pipeline.planning.plan import Plan

__all__ = ["Train"]

#: Options that mean something to some kinds of method only.
_NETWORK = ("epochs", "minutes", "plan", "override", "depth", "memory", "device", "tracking")
_ATLAS = ("transform", "engine", "linear", "keep", "correct", "borders", "work")
OPTIONS_OF = {
    "network": _NETWORK,
    "atlas": _ATLAS,
    "joined": (*_NETWORK, *_ATLAS, "atlases", "prior", "warped", "combine", "weight", "unlabelled"),
    "classical": ("option",),
    "atlas-classical": (*_ATLAS, "atlases", "weight", "option"),
}


@dataclass(frozen=True)
class Train:
    """Train a network on the labelled cases of a data set, put them together as atlases, or teach a classical method.

    OUT becomes a MONAI bundle. For a network, OUT/configs/train.yaml trains and OUT/configs/inference.yaml labels
    scans by `python -m monai.bundle run` too. For an atlas method the cases are checked and copied into OUT, which
    can then be carried elsewhere; with --correct (by default with few) they also teach a correction. A classical method
    learns in seconds to minutes what structures look like and where they lie. The same command after an interruption
    goes on where it stopped.
    """

    positional: ClassVar[tuple[str, ...]] = ("dataset",)
    repeated: ClassVar[tuple[str, ...]] = ("option",)

    dataset: Path
    """Folder of the data set: Medical Segmentation Decathlon, nnU-Net raw, or images/ and labels/."""
    out: Path
    """Folder of the run; made if it is not there."""
    method: str | None = None
    """Network: unet (the default), attention-unet, fcn, dynunet or segresnet (not with --plan). Atlases:
    joint-fusion (the best), majority, global-weighted, local-weighted, staple or generative. Both together: atlas-unet,
    or atlas- before another network. Classical:
    region-growing, watershed, split-merge, region-graph, kmeans, knn, gmm, mrf or markov-chain; told by atlases where
    structures lie: atlas-mrf, or atlas- before another but knn."""
    fold: Whole = 0
    """Which fold is kept for validation, from 0."""
    folds: Count = 5
    """Number of folds that the labelled cases are dealt into; 1, without a network: none is kept for validation."""
    split_seed: Seed = 0
    """Seed of the dealing; the same for all folds of an ensemble."""
    channels: tuple[str, ...] = ()
    """Names of the channels, such as CT or T1 T2, instead of those in the data set (not with --plan); for networks CT
    is clipped and scaled, others get mean 0 and standard deviation 1."""
    epochs: Count | None = None
    """Networks: training budget in epochs (not with --minutes or --plan)."""
    minutes: Positive | None = None
    """Networks: training budget in minutes; the learning rate follows it (not with --epochs or --plan)."""
    plan: Path | None = None
    """Networks: plan to follow, as `atlaseg plan` writes it; by default it is made from the data."""
    override: tuple[str, ...] = ()
    """Networks: values of the plan to replace, such as training.learning_rate=0.01 patch_size=[64,64,64]."""
    depth: Literal["context", "standard", "precision"] | None = None
    """Networks: levels down, context 4, standard 3, precision 2 (not with --plan)."""
    memory: str | None = None
    """Networks: memory that training may take, such as 500MB; by default 8GB (not with --plan)."""
    device: str = "auto"
    """Networks: auto (a GPU where there is one), cpu or cuda."""
    seed: Seed | None = None
    """Of everything random in training, learning or registration; by default 0, or what --plan says."""
    tracking: Literal["mlflow", "none"] = "mlflow"
    """Networks: experiment tracking; mlflow writes a local sqlite file into OUT/mlflow, nothing leaves the machine."""
    transform: str | None = None
    """Atlases: rigid, similarity, affine, bspline, syn or deformable (the default)."""
    engine: str | None = None
    """Atlases: torch, elastix, ants, simpleitk or greedy; by default the one that suits the transform."""
    linear: Literal["auto", "rigid", "affine"] | None = None
    """Atlases: where the bending begins; by default the better of several is found (auto)."""
    keep: Count | None = None
    """Atlases: how many to register in full to each scan, the most similar to it; by default all."""
    correct: Literal["auto", "yes", "no"] = "auto"
    """Atlases: also learn what fusion gets wrong every time, from each atlas labelled by the others; the best labels,
    for n (n - 1) registrations of n atlases, 20 (n - 1) of more than 20. By default (auto) joint-fusion does so
    with 4 to 20 atlases."""
    borders: Literal["yes", "no"] = "yes"
    """Atlases: where the raters of all of them changed from one structure to the next along a slice, do so too."""
    work: Path | None = None
    """Atlases: folder for finished registrations of the atlases to each other, which is kept; by default in OUT, and
    removed in the end."""
    atlases: Count | None = None
    """Together: how many training cases become atlases; by default all, but at most 20 of many."""
    prior: Literal["yes", "no"] = "no"
    """Together: whether the network sees what the atlases say, as further channels."""
    warped: Whole = 0
    """Together: how many atlases, warped onto each other, the network trains with; n of them make n (n - 1) pairs."""
    combine: Literal["ensemble", "bayes", "none"] = "ensemble"
    """Together: how network and atlases are joined in the end."""
    weight: Share | None = None
    """Together: of the atlases there; by default learnt, beside a network from the cases kept for validation, beside a
    classical method from training cases."""
    unlabelled: Path | None = None
    """Together: folder of further scans, without labels, which the atlases label for the network to learn from too."""
    option: tuple[str, ...] = ()
    """Classical: an option of the method, such as --option classes=4; may be repeated
    (docs/explanation/classical.md)."""

    def run(self) -> int:
        """Train, or go on; returns 0.

        Raises:
            OptionError: OUT holds a run of another command, or options exclude each other.
            DatasetError: the data set has errors that `atlaseg check` lists.
        """
        from atlaseg.workflows.inputs.run_request import is_begun
        from atlaseg.workflows.methods.names import DEFAULT_METHOD, find_method, refuse_options_of_others

        method = find_method(self.method or DEFAULT_METHOD)
        refuse_options_of_others(self, OPTIONS_OF, method.kind, f"method {method.name}")
        request = self._request()
        begun = is_begun(self, request)
        if method.kind == "atlas":
            from atlaseg.workflows.methods.atlas_training import train_atlases

            train_atlases(self, method, request)
        elif method.kind == "joined":
            from atlaseg.workflows.methods.joined_training import train_joined_method

            train_joined_method(self, method, request)
        elif method.kind == "classical":
            from atlaseg.workflows.methods.classical_training import train_classical

            train_classical(self, method, request)
        elif method.kind == "atlas-classical":
            from atlaseg.workflows.methods.atlas_classical_training import train_atlas_classical

            train_atlas_classical(self, method, request)
        else:
            self._train_network(request, begun=begun)
        return 0

    def _train_network(self, request: dict[str, Any], *, begun: bool) -> None:
        from atlaseg.pipeline.bundle import refresh_bundle
        from atlaseg.pipeline.network_segmenter import run_training

        if begun:
            refresh_bundle(self.out)
        else:
            self._prepare(request)
        print(f"{'Resuming' if begun else 'Training'} in {self.out}", file=sys.stderr)
        run_training(self.out, self.dataset, self.tracking, self.device)
        self.say_result()

    def _request(self) -> dict[str, Any]:
        from atlaseg.workflows.inputs.run_request import request_of

        return request_of(self)

    def _prepare(self, request: dict[str, Any]) -> None:
        """Check the data, plan, split and render the bundle; the request is written last."""
        from atlaseg.pipeline.bundle import render_bundle
        from atlaseg.pipeline.datasets import read_dataset
        from atlaseg.pipeline.system.hardware import torch_device
        from atlaseg.pipeline.training.autocast import autocast
        from atlaseg.workflows.inputs.run_request import write_request

        dataset = self.settled(read_dataset(self.dataset), refuse_problems(self.dataset))
        training, validation = self.split(dataset)
        plan = self.plan_for(dataset)
        autocast(torch_device(self.device), plan.training.precision)  # refuses what this device cannot do
        render_bundle(plan, self.out, training, validation, self.dataset)
        write_request(self.out, request)

    def settled(self, dataset: Dataset, found: Inspection) -> Dataset:
        """The data set with channel names from --channels, from --plan, from its files, or assumed from intensities.

        Raises:
            OptionError: another number of names than of channels.
            PlanError: the plan is not one, or names other channels than the data set.
        """
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.pipeline.planning.plan_file import load_plan
        from atlaseg.workflows.inputs.channels import settle_channels

        if self.plan is None:
            return settle_channels(dataset, found, self.channels)
        self._refuse_what_the_plan_says()
        plan = load_plan(self.plan)
        if self.channels and self.channels != plan.channels:
            raise OptionError(
                f"--plan already says what --channels would ({' '.join(plan.channels)}): change it in the plan"
            )
        if not self.channels and dataset.channels_named_by is not None:
            self._refuse_another_plan(plan, dataset)
        return settle_channels(dataset, found, plan.channels, "--channels" if self.channels else "--plan")

    def _refuse_what_the_plan_says(self) -> None:
        from atlaseg.pipeline.errors import OptionError

        further = self.prior == "yes" or self.warped
        decided = ("depth", "memory", "epochs", "minutes") + (() if further else ("method",))
        if said := [name for name in decided if getattr(self, name) is not None]:
            raise OptionError(
                f"--plan already says what --{said[0]} would: change it in the plan or by --override"
            )

    def _refuse_another_plan(self, plan: Plan, dataset: Dataset) -> None:
        """Refuse a plan whose labels or channels are not those of the data set."""
        from atlaseg.pipeline.datasets.dataset_identity import plan_difference
        from atlaseg.pipeline.errors import PlanError

        if problem := plan_difference(plan, dataset.labels, dataset.channels):
            way = ", or name its channels by --channels" if plan.channels != dataset.channels else ""
            raise PlanError(
                f"{self.plan or '--override'}: not a plan of this data set: {problem}; make one by `atlaseg plan`{way}"
            )

    def split(self, dataset: Dataset) -> tuple[list[Case], list[Case]]:
        """Labelled cases of the fold: to train on (or to be atlases), and to validate on.

        Raises:
            OptionError: there is no such fold, or a network is left without validation.
        """
        from atlaseg.pipeline.datasets.splits import split_folds
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.workflows.methods.names import DEFAULT_METHOD, find_method

        if not 0 <= self.fold < self.folds:
            raise OptionError(f"fold {self.fold}: with --folds {self.folds} choose 0 to {self.folds - 1}")
        kind = find_method(self.method or DEFAULT_METHOD).kind
        trained = kind in ("network", "joined")
        if self.folds == 1 and not trained:
            return list(dataset.labelled), []
        if not trained and self.folds > len(dataset.labelled):
            aim = "make atlases of all" if kind == "atlas" else "learn from all"
            raise OptionError(
                f"--folds {self.folds}: only {len(dataset.labelled)} labelled case(s); use fewer, or --folds 1 to {aim}"
            )
        cases = {case.name: case for case in dataset.labelled}
        training, validation = split_folds(list(cases), self.folds, self.split_seed)[self.fold]
        return [cases[n] for n in training], [cases[n] for n in validation]

    def plan_for(self, dataset: Dataset, *, prior: bool = False, versions: int = 0) -> Plan:
        """The plan that was given, or one made from the data.

        Args:
            dataset: to be planned for.
            prior: whether label probabilities of fused atlases are further input channels.
            versions: training scans that are warped onto others, to be trained with.

        Raises:
            OptionError: options exclude each other.
            PlanError: the plan cannot be met.
        """
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.pipeline.planning.plan_file import load_plan, override_plan
        from atlaseg.pipeline.planning.rules import check_plan, plan_for
        from atlaseg.pipeline.system.hardware import choose_device
        from atlaseg.workflows.methods.names import find_method
        from atlaseg.workflows.plan import gigabytes

        if self.plan is not None:
            self._refuse_what_the_plan_says()
            seed = [] if self.seed is None else [f"training.seed={self.seed}"]
            plan = override_plan(load_plan(self.plan), [*seed, *self.override])
            self._refuse_another_plan(plan, dataset)
            _refuse_another_prior(plan, prior=prior)
            check_plan(plan, choose_device(self.device))
            return plan
        if self.epochs is not None and self.minutes is not None:
            raise OptionError("give either --epochs or --minutes, not both")
        plan = plan_for(
            dataset,
            method=find_method(self.method or "unet").network or self.method or "unet",
            memory_gb=gigabytes(self.memory or "8GB"),
            device=choose_device(self.device),
            minutes=self.minutes,
            epochs=self.epochs,
            depth=self.depth,
            seed=self.seed or 0,
            overrides=self.override,
            prior=prior,
            versions=versions,
        )
        self._refuse_another_plan(plan, dataset)
        _refuse_another_prior(plan, prior=prior)
        return plan

    def say_result(self) -> None:
        """What came of training, in a few lines."""
        from atlaseg.pipeline.io.files import read_json, taking_apart

        path = self.out / "history.json"
        rows = read_json(path, list)
        with taking_apart(path, "a row for each epoch, one of them with val_dice"):
            last = [row for row in rows if "val_dice" in row][-1]
            print(
                f"Trained {int(last['iteration'])} iterations in {float(last['seconds']) / 60:.1f} minutes; "
                f"validation Dice {float(last['val_dice']):.4f} (on the network's grid)"
            )
        print(f"Pictures: {self.out / 'curves.png'}, {self.out / 'overlay.png'}")
        print(f"Label scans with: atlaseg segment {self.out} SCANS --out LABELS")


def _refuse_another_prior(plan: Plan, *, prior: bool) -> None:
    """Refuse a plan whose network expects what nobody will tell it, or does not expect what it will be told."""
    from atlaseg.pipeline.errors import PlanError

    if plan.prior_channels and not prior:
        raise PlanError(
            "prior.source: atlases, but no atlases are asked what they say; set it to none, or give --method "
            f"atlas-{plan.network.name} --prior yes"
        )
    if prior and not plan.prior_channels:
        raise PlanError("prior.source: none, but --prior yes; set it to atlases, or leave --prior out")


def refuse_problems(folder: Path) -> Inspection:
    """Read every file before a night's training depends on it.

    Scans without labels, or without any labelled voxel, are no problem for training.

    Returns:
        What was found; no problem of it is an error.

    Raises:
        DatasetError: the first problem, and how many there are.
    """
    from concurrent.futures import ThreadPoolExecutor

    from atlaseg.pipeline.datasets.inspection import inspect_dataset
    from atlaseg.pipeline.errors import DatasetError

    with ThreadPoolExecutor() as executor:
        found = inspect_dataset(folder, tolerated=("missing-label", "empty-label"), executor=executor)
    if errors := found.errors:
        more = (
            f" (and {len(errors) - 1} more problems: see `atlaseg check {folder}`)" if len(errors) > 1 else ""
        )
        raise DatasetError(f"{errors[0].file}: {errors[0].message}{more}")
    for problem in found.warnings:
        if problem.kind == "left-out":
            print(f"{problem.file}: {problem.message}", file=sys.stderr)
    return found
