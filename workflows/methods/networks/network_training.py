"""``atlaseg train`` for networks: check the data set, plan, and train the bundle with MONAI."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["prepare_run", "print_result", "train_network"]


def train_network(job: TrainingJob, network: str, request: dict[str, Any], *, begun: bool) -> None:
    """Train a network, or resume an interrupted training.

    Args:
        job: what was asked for.
        network: its name.
        request: what the run's ``request.json`` shall say.
        begun: whether it is there already.
    """
    from atlaseg.pipeline.bundle import refresh_bundle
    from atlaseg.pipeline.network_segmenter import run_training

    if begun:
        refresh_bundle(job.out)
    else:
        prepare_run(job, network, request)
    print(f"{'Resuming' if begun else 'Training'} in {job.out}", file=sys.stderr)
    run_training(job.out, job.dataset, job.network.tracking, job.network.device)
    print_result(job.out)


def prepare_run(job: TrainingJob, network: str, request: dict[str, Any]) -> None:
    """Check the data, plan, split and render the bundle; the request is written last."""
    from atlaseg.pipeline.bundle import render_bundle
    from atlaseg.pipeline.datasets import read_dataset
    from atlaseg.pipeline.system.hardware import torch_device
    from atlaseg.pipeline.training.autocast import autocast
    from atlaseg.workflows.inputs.checked_dataset import refuse_problems
    from atlaseg.workflows.inputs.run_request import write_request
    from atlaseg.workflows.methods.networks.network_plan import plan_for_job, settled

    dataset = settled(job, read_dataset(job.dataset), refuse_problems(job.dataset))
    training, validation = job.split(dataset)
    plan = plan_for_job(job, dataset, network)
    autocast(torch_device(job.network.device), plan.training.precision)  # refuses what this device cannot do
    render_bundle(plan, job.out, training, validation, job.dataset)
    write_request(job.out, request)


def print_result(run: Path) -> None:
    """Print the result of training in a few lines."""
    from atlaseg.pipeline.io.files import read_json, taking_apart

    path = run / "history.json"
    rows = read_json(path, list)
    with taking_apart(path, "a row for each epoch, one of them with val_dice"):
        last = [row for row in rows if "val_dice" in row][-1]
        print(
            f"Trained {int(last['iteration'])} iterations in {float(last['seconds']) / 60:.1f} minutes; "
            f"validation Dice {float(last['val_dice']):.4f} (on the network's grid)"
        )
    print(f"Pictures: {run / 'curves.png'}, {run / 'overlay.png'}")
    print(f"Label scans with: atlaseg segment {run} SCANS --out LABELS")
