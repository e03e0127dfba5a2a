"""The part of ``atlaseg train`` for a network beside atlases."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlaseg.atlases.network_training.joined_training import JoinedOptions
    from atlaseg.workflows.methods.names import Method
    from atlaseg.workflows.train import Train

__all__ = ["WORK", "train_joined_method"]

#: Finished registrations; in the run's folder until it is finished.
WORK = ".registrations"


def train_joined_method(job: Train, method: Method, request: dict[str, Any]) -> None:
    """Train a network beside atlases, or go on with it, or find that it is finished.

    Args:
        job: what was asked for.
        method: of kind ``joined``.
        request: what the run's ``request.json`` says or shall say.

    Raises:
        OptionError: an option is not possible.
        AtlasegError: a file of the data set is not as it must be; nothing has been written then.
    """
    from atlaseg.atlases.atlas_network_segmenter import is_joined_bundle, read_combination

    if is_joined_bundle(job.out):
        print(f"{job.out}: already finished; nothing to do", file=sys.stderr)
    else:
        _train(job, method, request)
        shutil.rmtree(job.out / WORK, ignore_errors=True)
    found = read_combination(job.out)
    if found.needs_atlases:
        print(f"In the end the atlases are joined by {found.kind} with weight {found.weight:g}")
    job.say_result()


def _train(job: Train, method: Method, request: dict[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.network_training.joined_training import train_joined
    from atlaseg.pipeline.errors import DatasetError
    from atlaseg.pipeline.io.scan_names import digits_in_names
    from atlaseg.pipeline.io.volume import read_header
    from atlaseg.pipeline.progress import ProgressDisplay
    from atlaseg.pipeline.system.worker_processes import available_cores, worker_pool
    from atlaseg.workflows.inputs.run_request import write_request
    from atlaseg.workflows.inputs.scan_files import find_scans
    from atlaseg.workflows.train import refuse_problems

    options = _options(job)
    options.propagation.steps()  # refuses what no engine has before files are read
    inspected = refuse_problems(job.dataset)
    with ThreadPoolExecutor() as executor:
        everything = AtlasSet.read(job.dataset, executor=executor)
    everything = everything.with_channels_of(job.settled(everything.dataset, inspected))
    training, validation = job.split(everything.dataset)
    atlases = everything.subset([case.name for case in training])

    scans = {}
    if job.unlabelled is not None:
        cases = [(case.name, case.images) for case in everything.dataset.cases]
        found = find_scans((job.unlabelled,), len(everything.dataset.channels), digits_in_names(cases))
        for name, problem in found.problems.items():
            raise DatasetError(f"{job.unlabelled / name}: {problem}")
        for note in found.notes:
            print(note, file=sys.stderr)
        scans = found.files
        for files in scans.values():  # what cannot be read is refused before hours of work
            for file in files:
                read_header(file)
    # refuses what cannot be met before anything is written
    plan = job.plan_for(atlases.dataset, prior=options.prior, versions=options.warped)
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
            device=job.device,
            tracking=job.tracking,
            executor=workers if cores > 1 else None,
            unlabelled=scans,
            work=job.work or job.out / WORK,
            progress=progress,
        )


def _options(job: Train) -> JoinedOptions:
    from atlaseg.atlases.network_training.joined_training import JoinedOptions
    from atlaseg.workflows.methods.atlas_training import propagation_of

    return JoinedOptions(
        propagation=propagation_of(job),
        atlases=job.atlases,
        prior=job.prior == "yes",
        warped=job.warped,
        borders=job.borders == "yes",
        correct={"auto": None, "yes": True, "no": False}[job.correct],
        combine=job.combine,
        weight=job.weight,
    )
