"""``atlaseg train`` for a network combined with atlases."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlaseg.atlases.network_training.joined_training import JoinedOptions
    from atlaseg.workflows.methods.family import Method
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["joined_options", "train_network_with_atlases"]


def train_network_with_atlases(job: TrainingJob, method: Method, request: dict[str, Any]) -> None:
    """Train a network combined with atlases; resume an interrupted run, do nothing for a finished one.

    Args:
        job: what was asked for.
        method: a network with atlases.
        request: what the run's ``request.json`` says or shall say.

    Raises:
        OptionError: an option is not possible.
        AtlasegError: a file of the data set is not as it must be; nothing has been written then.
    """
    from atlaseg.atlases.combined.combined_bundle import is_atlas_network_bundle, read_combination
    from atlaseg.workflows.methods.atlases.atlas_labelling import WORK
    from atlaseg.workflows.methods.networks.network_training import print_result

    if is_atlas_network_bundle(job.out):
        print(f"{job.out}: already finished; nothing to do", file=sys.stderr)
    else:
        _train(job, method, request)
        shutil.rmtree(job.out / WORK, ignore_errors=True)
    found = read_combination(job.out)
    if found.needs_atlases:
        print(f"Network and atlases are combined by {found.kind} with weight {found.weight:g}")
    print_result(job.out)


def _train(job: TrainingJob, method: Method, request: dict[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.network_training.joined_training import train_joined
    from atlaseg.pipeline.errors import DatasetError
    from atlaseg.pipeline.io.scan_names import digits_in_names
    from atlaseg.pipeline.io.volume import read_header
    from atlaseg.pipeline.progress import ProgressDisplay
    from atlaseg.pipeline.system.worker_processes import available_cores, worker_pool
    from atlaseg.workflows.inputs.checked_dataset import refuse_problems
    from atlaseg.workflows.inputs.run_request import write_request
    from atlaseg.workflows.inputs.scan_files import find_scans
    from atlaseg.workflows.methods.atlases.atlas_labelling import WORK
    from atlaseg.workflows.methods.networks.network_plan import plan_for_job, settled

    options = joined_options(job)
    inspected = refuse_problems(job.dataset)
    with ThreadPoolExecutor() as executor:
        everything = AtlasSet.read(job.dataset, executor=executor)
    everything = everything.with_channels_of(settled(job, everything.dataset, inspected))
    training, validation = job.split(everything.dataset)
    atlases = everything.subset([case.name for case in training])

    scans = {}
    if job.network_with_atlases.unlabelled is not None:
        cases = [(case.name, case.images) for case in everything.dataset.cases]
        found = find_scans(
            (job.network_with_atlases.unlabelled,), len(everything.dataset.channels), digits_in_names(cases)
        )
        for name, problem in found.problems.items():
            raise DatasetError(f"{job.network_with_atlases.unlabelled / name}: {problem}")
        for note in found.notes:
            print(note, file=sys.stderr)
        scans = found.files
        for files in scans.values():  # what cannot be read is refused before hours of work
            for file in files:
                read_header(file)
    # refuses what cannot be met before anything is written
    plan = plan_for_job(job, atlases.dataset, method.part.name, prior=options.prior, versions=options.warped)
    write_request(job.out, request)
    print(f"Training {method.name} in {job.out}", file=sys.stderr)
    cores = available_cores()
    with worker_pool(cores) as workers, ProgressDisplay() as progress:
        train_joined(
            job.out,
            everything.dataset,
            training,
            validation,
            options,
            make_plan=lambda _: plan,
            atlases=atlases,
            dataset_dir=job.dataset,
            device=job.network.device,
            tracking=job.network.tracking,
            executor=workers if cores > 1 else None,
            unlabelled=scans,
            work=job.atlas.work or job.out / WORK,
            progress=progress,
        )


def joined_options(job: TrainingJob) -> JoinedOptions:
    """How network and atlases are joined, as far as a job says so.

    Raises:
        OptionError: an option is not possible.
    """
    from atlaseg.atlases.network_training.joined_training import JoinedOptions
    from atlaseg.workflows.methods.atlases.atlas_training import propagation_of

    return JoinedOptions(
        propagation=propagation_of(job),
        atlases=job.with_atlases.atlases,
        prior=job.network_with_atlases.prior == "yes",
        warped=job.network_with_atlases.warped,
        borders=job.atlas.borders == "yes",
        correct={"auto": None, "yes": True, "no": False}[job.atlas.correct],
        combine=job.network_with_atlases.combine,
        weight=job.with_atlases.weight,
    )
