"""``atlaseg train`` for a classical method with a location prior from atlases."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlaseg.workflows.methods.family import Method
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["train_classical_with_atlases"]


def train_classical_with_atlases(job: TrainingJob, method: Method, request: dict[str, Any]) -> None:
    """Make OUT a bundle folder of a classical method and its atlases, or find that it is one already.

    Args:
        job: what was asked for.
        method: a classical method with atlases.
        request: what the run's ``request.json`` says or shall say.

    Raises:
        OptionError: an option is not possible.
        AtlasegError: a file of the data set is not as it must be (nothing has been written then), a structure has too
            few scans, or no atlas could be registered.
    """
    from atlaseg.atlases.combined.atlas_classical_segmenter import AtlasClassicalSegmenter
    from atlaseg.atlases.combined.combined_bundle import is_atlas_classical_bundle
    from atlaseg.workflows.methods.atlases.atlas_labelling import WORK

    if is_atlas_classical_bundle(job.out):
        AtlasClassicalSegmenter.load(job.out)  # says in one line where somebody has spoilt it
        print(f"{job.out}: already finished; nothing to do", file=sys.stderr)
    else:
        _learn(job, method, request)
        shutil.rmtree(job.out / WORK, ignore_errors=True)
    print(f"Label scans with: atlaseg segment {job.out} SCANS --out LABELS")


def _learn(job: TrainingJob, method: Method, request: dict[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.combined.atlas_classical_segmenter import AtlasClassicalSegmenter
    from atlaseg.pipeline.bundle import cases_text
    from atlaseg.pipeline.io.files import write_text
    from atlaseg.pipeline.progress import ProgressDisplay
    from atlaseg.pipeline.system.worker_processes import available_cores, worker_pool
    from atlaseg.workflows.inputs.channels import resolve_channels
    from atlaseg.workflows.inputs.checked_dataset import refuse_problems
    from atlaseg.workflows.inputs.run_request import write_request
    from atlaseg.workflows.methods.atlases.atlas_labelling import WORK
    from atlaseg.workflows.methods.atlases.atlas_training import propagation_of
    from atlaseg.workflows.methods.classical.classical_training import options_of

    name = method.part.name
    propagation = propagation_of(job)
    segmenter = AtlasClassicalSegmenter(
        method=name,
        options=options_of(name, job),
        propagation=propagation,
        atlases=job.with_atlases.atlases,
        weight=job.with_atlases.weight,
        correct={"auto": None, "yes": True, "no": False}[job.atlas.correct],
        borders=job.atlas.borders == "yes",
        work=job.atlas.work or job.out / WORK,
    )
    inspected = refuse_problems(job.dataset)
    with ThreadPoolExecutor() as executor:
        everything = AtlasSet.read(job.dataset, executor=executor)
    everything = everything.with_channels_of(resolve_channels(everything.dataset, inspected, job.channels))
    training, validation = job.split(everything.dataset, of_all="learn from all")
    configs = job.out / "configs"
    write_text(configs / "cases.json", cases_text(training, validation, job.dataset))
    write_request(job.out, request)
    print(f"Learning {method.name} from {len(training)} labelled cases", file=sys.stderr)
    cores = available_cores()
    with worker_pool(cores) as workers, ProgressDisplay() as progress:
        segmenter.executor = workers if cores > 1 else None
        segmenter.fit_atlases(everything.subset([case.name for case in training]), progress)
    segmenter.save(job.out)
    tried = segmenter.about.get("dice_of_weights")
    how = f"; Dice of each weight that was tried: {tried}" if tried else ""
    print(f"{len(segmenter.atlases.atlases)} atlases, which have a weight of {segmenter.weight:g}{how}")
    if validation:
        print(
            f"{len(validation)} labelled case(s) kept for: atlaseg segment {job.out} --validation --out LABELS"
        )
