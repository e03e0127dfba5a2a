"""The plan that a network is trained by: the one that was given, or one made from the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from atlaseg.pipeline.case import Dataset
    from atlaseg.pipeline.datasets.inspection import Inspection
    from atlaseg.pipeline.planning.plan import Plan
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["plan_for_job", "refuse_another_plan", "settled"]


def settled(job: TrainingJob, dataset: Dataset, found: Inspection) -> Dataset:
    """The data set with channel names from --channels, from --plan, from its files, or assumed from intensities.

    Raises:
        OptionError: another number of names than of channels.
        PlanError: the plan is not one, or names other channels than the data set.
    """
    from atlaseg.pipeline.errors import OptionError
    from atlaseg.pipeline.planning.plan_file import load_plan
    from atlaseg.workflows.inputs.channels import resolve_channels

    path = job.network.plan
    if path is None:
        return resolve_channels(dataset, found, job.channels)
    _refuse_what_the_plan_says(job)
    plan = load_plan(path)
    if job.channels and job.channels != plan.channels:
        raise OptionError(
            f"--plan already says what --channels would ({' '.join(plan.channels)}): change it in the plan"
        )
    if not job.channels and dataset.channels_named_by is not None:
        refuse_another_plan(plan, dataset, path)
    return resolve_channels(dataset, found, plan.channels, "--channels" if job.channels else "--plan")


def plan_for_job(
    job: TrainingJob, dataset: Dataset, network: str, *, prior: bool = False, versions: int = 0
) -> Plan:
    """The plan that was given, or one made from the data.

    Args:
        job: with the options of networks.
        dataset: to be planned for.
        network: its name, unless a plan names it.
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
    from atlaseg.workflows.plan import gigabytes

    options = job.network
    if options.plan is not None:
        _refuse_what_the_plan_says(job)
        seed = [] if job.seed is None else [f"training.seed={job.seed}"]
        plan = override_plan(load_plan(options.plan), [*seed, *options.override])
        refuse_another_plan(plan, dataset, options.plan)
        _refuse_another_prior(plan, prior=prior)
        check_plan(plan, choose_device(options.device))
        return plan
    if options.epochs is not None and options.minutes is not None:
        raise OptionError("give either --epochs or --minutes, not both")
    plan = plan_for(
        dataset,
        method=network,
        memory_gb=gigabytes(options.memory or "8GB"),
        device=choose_device(options.device),
        minutes=options.minutes,
        epochs=options.epochs,
        depth=options.depth,
        seed=job.seed or 0,
        overrides=options.override,
        prior=prior,
        versions=versions,
    )
    refuse_another_plan(plan, dataset, None)
    _refuse_another_prior(plan, prior=prior)
    return plan


def _refuse_what_the_plan_says(job: TrainingJob) -> None:
    from atlaseg.pipeline.errors import OptionError

    further = job.network_with_atlases.prior == "yes" or job.network_with_atlases.warped
    decided = {
        "depth": job.network.depth,
        "memory": job.network.memory,
        "epochs": job.network.epochs,
        "minutes": job.network.minutes,
        "method": None if further else job.method,
    }
    if said := [name for name, value in decided.items() if value is not None]:
        raise OptionError(
            f"--plan already says what --{said[0]} would: change it in the plan or by --override"
        )


def refuse_another_plan(plan: Plan, dataset: Dataset, path: Path | None) -> None:
    """Refuse a plan whose labels or channels are not those of the data set.

    Args:
        plan: to be followed.
        dataset: to be trained on.
        path: of the plan, for messages; ``None`` for one that was made from the data.

    Raises:
        PlanError: it is a plan of other data.
    """
    from atlaseg.pipeline.datasets.dataset_identity import plan_difference
    from atlaseg.pipeline.errors import PlanError

    if problem := plan_difference(plan, dataset.labels, dataset.channels):
        way = ", or name its channels by --channels" if plan.channels != dataset.channels else ""
        raise PlanError(
            f"{path or '--override'}: not a plan of this data set: {problem}; make one by `atlaseg plan`{way}"
        )


def _refuse_another_prior(plan: Plan, *, prior: bool) -> None:
    """Refuse a plan that expects a prior where there is none, or no prior where there is one."""
    from atlaseg.pipeline.errors import PlanError

    if plan.prior_channels and not prior:
        raise PlanError(
            "prior.source: atlases, but no prior is made from atlases; set it to none, or give --method "
            f"atlas-{plan.network.name} --prior yes"
        )
    if prior and not plan.prior_channels:
        raise PlanError("prior.source: none, but --prior yes; set it to atlases, or leave --prior out")
