"""``atlaseg train`` for atlas methods: check and save the atlases, and optionally learn a correction."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.atlases.propagation.propagation import PropagationOptions
    from atlaseg.workflows.methods.family import Method
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["propagation_of", "train_atlases"]


def train_atlases(job: TrainingJob, method: Method, request: dict[str, Any]) -> None:
    """Make OUT a bundle folder with the atlases in it, or find that it is one already.

    The request is written before the atlases are copied and the settings after them: a folder with a request and
    no settings is one whose copying was interrupted, and is copied anew.

    Args:
        job: what was asked for.
        method: of the family of atlases.
        request: what the run's ``request.json`` says or shall say.

    Raises:
        OptionError: an option is not possible.
        AtlasegError: a file of the data set is not as it must be; nothing has been written then.
    """
    from atlaseg.atlases.multi_atlas_bundle import is_atlas_bundle, read_settings

    if is_atlas_bundle(job.out):
        read_settings(job.out)  # says in one line where somebody has spoilt them
        print(f"{job.out}: already finished; nothing to do", file=sys.stderr)
    else:
        _put_together(job, method, request)
    print(f"Label scans with: atlaseg segment {job.out} SCANS --out LABELS")


def _put_together(job: TrainingJob, method: Method, request: dict[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.pipeline.bundle import cases_text
    from atlaseg.pipeline.io.files import write_text
    from atlaseg.workflows.inputs.channels import with_user_channels
    from atlaseg.workflows.inputs.run_request import write_request
    from atlaseg.workflows.methods.atlases.atlas_labelling import WORK

    options = propagation_of(job)
    with ThreadPoolExecutor() as executor:
        everything = AtlasSet.read(job.dataset, executor=executor)
        everything = everything.with_channels_of(with_user_channels(everything.dataset, job.channels))
        training, validation = job.split(everything.dataset, of_all="make atlases of all")
        segmenter = MultiAtlasSegmenter(fusion=method.part.name, options=options, executor=executor)
        segmenter.fit_atlases(everything.subset([case.name for case in training]))
        if job.atlas.borders == "no":
            segmenter.borders = ()
        print(f"Copying {len(training)} atlases to {job.out}", file=sys.stderr)
        configs = job.out / "configs"
        write_text(configs / "cases.json", cases_text(training, validation, job.dataset))
        write_request(job.out, request)
        if _shall_correct(job, method, len(training)):
            _correct(segmenter, job.atlas.work or job.out / WORK, by_itself=job.atlas.correct == "auto")
        segmenter.save(job.out)
    shutil.rmtree(job.out / WORK, ignore_errors=True)
    _say(job.out, method, segmenter.atlases, len(validation))


def propagation_of(job: TrainingJob) -> PropagationOptions:
    """How atlases are chosen and registered, as far as a job says so.

    Raises:
        OptionError: an option is not possible.
    """
    from atlaseg.atlases.propagation.propagation import PropagationOptions

    given: dict[str, Any] = {
        "transform": job.atlas.transform,
        "engine": job.atlas.engine,
        "linear": job.atlas.linear,
        "keep": job.atlas.keep,
        "seed": job.seed,
    }
    return PropagationOptions(**{name: value for name, value in given.items() if value is not None})


def _shall_correct(job: TrainingJob, method: Method, atlases: int) -> bool:
    """Whether a correction is learnt: on request, or by default for few atlases."""
    from atlaseg.atlases.correction.learn_correction import learns_by_itself

    if job.atlas.correct != "auto":
        return job.atlas.correct == "yes"
    return learns_by_itself(method.part.name, atlases)


def _correct(segmenter: MultiAtlasSegmenter, work: Path, *, by_itself: bool) -> None:
    """Learn a correction; finished registrations are kept in a folder, so that an interrupted job goes on.

    Atlases that leave nothing to be corrected are an error only where a correction was asked for.
    """
    from contextlib import nullcontext

    from atlaseg.pipeline.errors import NothingToLearnError
    from atlaseg.pipeline.progress import ProgressDisplay
    from atlaseg.pipeline.system.worker_processes import available_cores, worker_pool

    cores, copies = available_cores(), segmenter.executor
    total = len(segmenter.atlases)
    if by_itself:
        print(
            f"Learning a correction by {total * (total - 1)} registrations of the atlases to each other, once; "
            "without: --correct no",
            file=sys.stderr,
        )
    with (
        worker_pool(cores) if cores > 1 else nullcontext() as executor,
        ProgressDisplay("learning from atlases", total, "scan") as progress,
    ):
        segmenter.executor, segmenter.work = executor, work
        try:
            segmenter.learn_correction(progress)
        except NothingToLearnError as error:
            if not by_itself:
                raise
            print(f"No correction: {error}", file=sys.stderr)
    segmenter.executor, segmenter.work = copies, None


def _say(out: Path, method: Method, atlases: AtlasSet, validation: int) -> None:
    print(f"{len(atlases)} atlases with {len(atlases.labels) - 1} structures in {out}, method {method.name}")
    if validation:
        print(f"{validation} labelled case(s) kept for: atlaseg segment {out} --validation --out LABELS")
