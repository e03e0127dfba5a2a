"""The segmenter that drives the bundle: trains it, opens it, labels scans with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    GeometryError,
    MemoryShortageError,
    NotFittedError,
    OptionError,
    PlanError,
)
from atlaseg.pipeline.failures import root_cause, user_error
from atlaseg.pipeline.planning.plan import Plan
from atlaseg.pipeline.progress import Progress
from atlaseg.pipeline.segmenter import Segmentation, refuse_mask, refuse_other_channels
from atlaseg.pipeline.system.hardware import torch_device

if TYPE_CHECKING:
    from monai.data import MetaTensor
    from torch import nn

    from atlaseg.pipeline.case import Case, Dataset

__all__ = ["NetworkSegmenter", "common_folder", "network_grid_transform", "run_training"]


def network_grid_transform(plan: Plan) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The preprocessing of the installed config template, filled with a plan, without the reading of files.

    Takes and returns ``{"image": MetaTensor (C, *spatial)}``, with an optional ``label``.
    """
    import yaml
    from monai.bundle import ConfigParser
    from monai.transforms import Compose

    from atlaseg.pipeline.bundle import template
    from atlaseg.pipeline.planning.plan_file import plan_to_dict
    from atlaseg.pipeline.training.cases import refuse_empty

    parser = ConfigParser(
        {
            **yaml.safe_load(template("common.yaml")),
            "plan": plan_to_dict(plan),
            "label_values": list(plan.labels.values),
            "when_empty": refuse_empty,
        }
    )
    return Compose([t for t in parser.get_parsed_content("gridding") if t is not None])


def run_training(
    folder: Path,
    dataset_dir: Path,
    tracking: str = "mlflow",
    device: str = "auto",
    *,
    unlabelled_dir: Path | None = None,
) -> None:
    """Train a rendered bundle folder, or resume its training, with MONAI's ``ConfigWorkflow``.

    Args:
        folder: as :func:`atlaseg.pipeline.bundle.render_bundle` wrote it.
        dataset_dir: folder of the data set.
        tracking: ``mlflow`` or ``none``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        unlabelled_dir: folder of the scans without labels, if there are any.

    Raises:
        OptionError: there is no such device.
        AtlasegError: training failed, for example because of a missing file or too little memory.
    """
    from monai.bundle import ConfigWorkflow

    from atlaseg.pipeline.bundle import path_expression
    from atlaseg.pipeline.io.full_disk import full_disk_as_error

    workflow = ConfigWorkflow(
        config_file=[str(folder / "configs" / "train.yaml")],  # of a single text, commas part files
        workflow_type="train",
        bundle_root=path_expression(folder),
        dataset_dir=path_expression(dataset_dir),
        unlabelled_dir=path_expression(unlabelled_dir or folder),
        tracking=None,  # MONAI's own tracking would add further handlers
        tracker=tracking,
    )
    workflow.parser["device"] = torch_device(device)
    try:
        with full_disk_as_error(folder):
            workflow.initialize()
            # not workflow.run(), which would first put the run's folder on Python's search path
            for number in range(len(workflow.parser["run"])):
                workflow.parser.get_parsed_content(f"run::{number}")
            workflow.finalize()
    except (RuntimeError, MemoryError) as error:
        raise _reason(error) from error


def _reason(error: BaseException) -> BaseException:
    """The underlying error of a failed expression of the config, if the user can fix it."""
    cause = root_cause(error)
    if isinstance(cause, MemoryShortageError):
        return PlanError(
            "training ran out of memory: lower training.batch_size or patch_size by --override, raise spacing, or "
            f"plan for less memory by --memory ({str(cause).removeprefix('out of memory ').strip('()')})"
        )
    return cause if isinstance(cause, AtlasegError | OSError) else error


class NetworkSegmenter:
    """A network, or an ensemble of networks, that labels scans.

    Args:
        folder: of the run: where :meth:`fit` trains. Not needed to :meth:`load`.
        plan: how to train; by default it is chosen from the data set by
            :func:`atlaseg.pipeline.planning.rules.plan_for`.
        validation: share of the labelled cases that :meth:`fit` keeps for validation.
        tracking: ``mlflow`` or ``none``.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:1``.
    """

    def __init__(
        self,
        folder: Path | None = None,
        plan: Plan | None = None,
        *,
        validation: float = 0.2,
        tracking: str = "none",
        device: str = "auto",
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.validation = validation
        self.tracking = tracking
        self.device = device
        self._networks: list[nn.Module] = []
        self._sources: list[Path] = []

    def fit(self, dataset: Dataset) -> Self:
        """Train on the labelled cases, of which every n-th by name is kept for validation.

        Raises:
            OptionError: no folder was given, or ``validation`` is out of range.
            DatasetError: fewer than two cases have labels.
        """
        labelled = dataset.labelled
        if not 0 < self.validation <= 0.5:
            raise OptionError(f"validation must be more than 0 and at most 0.5, found {self.validation:g}")
        if len(labelled) < 2:
            raise DatasetError(
                f"{dataset.name}: {len(labelled)} labelled cases; one must be kept for validation, so give at least 2"
            )
        kept = labelled[round(1 / self.validation) - 1 :: round(1 / self.validation)] or labelled[-1:]
        names = {case.name for case in kept}
        return self.fit_split(dataset, [case for case in labelled if case.name not in names], kept)

    def fit_split(self, dataset: Dataset, training: Sequence[Case], validation: Sequence[Case]) -> Self:
        """Train on given cases and validate on others; resumes an interrupted call.

        Raises:
            OptionError: no folder was given, or it holds a run with another plan or other cases.
        """
        from atlaseg.pipeline.bundle import holds_another_run, render_bundle
        from atlaseg.pipeline.planning.rules import plan_for

        if self.folder is None:
            raise OptionError("give the folder to train in: NetworkSegmenter(folder=...)")
        if self.plan is not None and self.plan.prior_channels:
            raise OptionError(
                "a network with a prior needs atlases: train it by `atlaseg train --method atlas-unet`"
            )
        if self.plan is None:
            self.plan = plan_for(dataset.subset([case.name for case in training]))
        home = (
            common_folder([file for case in (*training, *validation) for file in case.files]) or self.folder
        )
        if holds_another_run(self.plan, self.folder, training, validation, home):
            raise OptionError(
                f"{self.folder}: holds another run (its plan or its cases differ); give another folder"
            )
        render_bundle(self.plan, self.folder, training, validation, home)
        run_training(self.folder, home, self.tracking, self.device)
        self._open([self.folder])
        return self

    @classmethod
    def load(cls, directory: Path, *others: Path, device: str = "auto") -> Self:
        """Open one run, or several as an ensemble; reads the plan and the weights, runs nothing of the folder.

        Raises:
            MissingFileError: a folder is not a run, or has no weights yet.
            UnsafeModelError: a plan or weights hold something that would run as code.
            OptionError: runs that do not go together.
        """
        segmenter = cls(directory, device=device)
        segmenter._open([directory, *others])
        return segmenter

    def _open(self, folders: Sequence[Path]) -> None:
        from atlaseg.pipeline.bundle import build_plan_network, load_bundle_plan
        from atlaseg.pipeline.training.checkpoint import load_weights

        plans = [load_bundle_plan(folder) for folder in folders]
        for folder, plan in zip(folders[1:], plans[1:], strict=True):
            if difference := _difference(plans[0], plan):
                raise OptionError(
                    f"{folder}: cannot join {folders[0]} in an ensemble, its {difference} differs"
                )
        import torch

        device = torch_device(self.device)
        networks = []
        for folder, plan in zip(folders, plans, strict=True):
            network = build_plan_network(plan)
            load_weights(network, folder / "models" / "model.pt")
            convert: Any = network.to  # memory_format is missing from torch's overloads
            networks.append(convert(device=device, memory_format=torch.channels_last_3d).eval())
        self.plan, self._networks, self._sources = plans[0], networks, list(folders)

    @property
    def fitted_plan(self) -> Plan:
        """The plan of the network that is loaded.

        Raises:
            NotFittedError: neither fitted nor loaded.
        """
        if self.plan is None or not self._networks:
            raise NotFittedError("this segmenter is not fitted yet: call fit(dataset) or load(folder)")
        return self.plan

    def segment(
        self,
        image: MetaTensor,
        *,
        probabilities: bool = False,
        mask: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
        prior: MetaTensor | None = None,
        tta: bool | None = None,
    ) -> Segmentation:
        """Label a scan ``(C, *spatial)``; see :func:`atlaseg.pipeline.inference.labelling.label_scan` for the memory.

        Args:
            image: the scan, affine in RAS+ mm.
            probabilities: also return them, ``(K, *spatial)`` float16.
            mask: refused, because a network has learnt from whole scans.
            progress: told the share that is done.
            prior: label probabilities ``(K, *spatial)`` on the scan's grid, for a network that learnt with them; such a
                network was also taught to do without (``None``), only less well.
            tta: average over mirrored and shifted copies (test-time augmentation); ``None`` as the plan says.

        Raises:
            NotFittedError: neither fitted nor loaded.
            GeometryError: the scan has another number of channels than the training scans, or the prior another grid.
            DatasetError: the scan is empty, or cannot be brought onto the network's grid.
            MemoryShortageError: the scan on the network's grid needs more memory than there is.
            OptionError: a mask is given, or a prior to a network that has learnt without.
        """
        from atlaseg.pipeline.inference.labelling import label_scan
        from atlaseg.pipeline.inference.windows import SlidingWindow
        from atlaseg.pipeline.io.grid import Grid

        plan = self.fitted_plan
        refuse_mask(mask, "a network")
        refuse_other_channels(image, plan.channels)
        affine = np.asarray(image.affine, dtype=np.float64)
        entries = {"image": image.clone(), **_prior_entry(plan, image, prior)}
        try:
            prepared = network_grid_transform(plan)(entries)["image"]
        except RuntimeError as error:  # MONAI wraps every error of a transform
            raise user_error(error, "the scan", "cannot be prepared for the network") from error
        augmented = plan.inference.tta if tta is None else tta
        window = SlidingWindow(
            plan.patch_size,
            plan.inference.overlap,
            plan.inference.window_batch,
            plan.inference.mirror_axes if augmented else (),
            plan.training.precision,
            torch_device(self.device),
        )
        indices, chances = label_scan(
            prepared,
            _shifted(self._networks, plan) if augmented else self._networks,
            window,
            classes=len(plan.labels),
            grid=Grid(tuple(image.shape[1:]), affine),
            probabilities=probabilities,
            progress=progress,
        )
        return Segmentation(plan.labels.to_values(indices), affine, chances)

    def save(self, directory: Path) -> None:
        """Copy the bundle (configs and weights, not the training state) into a folder.

        Raises:
            NotFittedError: there is nothing to save.
            OptionError: an ensemble is its runs' folders; save each.
        """
        _ = self.fitted_plan
        if len(self._sources) > 1:
            raise OptionError("an ensemble is made of its runs: save or copy each of them")
        from atlaseg.pipeline.bundle import write_scripts

        source = self._sources[0]
        if directory.resolve() == source.resolve():
            return
        shutil.copytree(source / "configs", directory / "configs", dirs_exist_ok=True)
        write_scripts(directory)
        (directory / "models").mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / "models" / "model.pt", directory / "models" / "model.pt")


def _prior_entry(plan: Plan, image: MetaTensor, prior: MetaTensor | None) -> dict[str, MetaTensor]:
    """Input channels of the prior: the prior itself, zeros where there is none, or no entry for a network without."""
    import torch
    from monai.data import MetaTensor

    if not plan.prior_channels:
        if prior is not None:
            raise OptionError("this network was trained without a prior: do not give one")
        return {}
    shape = (plan.prior_channels, *image.shape[1:])
    if prior is None:
        return {"prior": MetaTensor(torch.zeros(shape), affine=image.affine.clone())}
    if tuple(prior.shape) != shape or not np.allclose(prior.affine, image.affine, atol=1e-4):
        raise GeometryError(
            f"expected a prior {shape} on the scan's grid, found {tuple(prior.shape)}"
            + ("" if tuple(prior.shape) != shape else " with another affine")
        )
    return {"prior": prior.clone()}


def _shifted(networks: Sequence[nn.Module], plan: Plan) -> list[nn.Module]:
    """Each network at several shifts, as many as mirroring leaves of the plan's passes."""
    from atlaseg.pipeline.inference.shifted import ShiftedNetwork, spread_shifts
    from atlaseg.pipeline.networks.registry import divisor

    period = divisor(plan.network)
    shifts = spread_shifts(max(1, plan.inference.tta_passes // 2 ** len(plan.inference.mirror_axes)), period)
    return [ShiftedNetwork(network, shift, period) for network in networks for shift in shifts]


def _difference(a: Plan, b: Plan) -> str | None:
    """The first property that differs between two plans though members of an ensemble must share it."""
    shared = ("channels", "labels", "orientation", "spacing", "normalisation", "foreground_threshold")
    for name in shared:
        if getattr(a, name) != getattr(b, name):
            return name
    if a.prior.source != b.prior.source:
        return "prior"
    return "patch_size" if a.patch_size != b.patch_size else None


def common_folder(files: Sequence[Path]) -> Path | None:
    """Deepest folder that holds all of some files, ``None`` where there are none."""
    import os

    folders = [str(path.parent.absolute()) for path in files]
    return Path(os.path.commonpath(folders)) if folders else None
