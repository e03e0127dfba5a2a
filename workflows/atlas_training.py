"""The part of ``atlaseg train`` for atlas methods: the atlases are checked, put together and, if asked, learnt from."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from atlases.atlas import AtlasSet
    from atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from workflows.methods import Method
    from workflows.train import Train

__all__ = ["train_atlases"]

WORK = ".registrations"


def train_atlases(job: Train, method: Method, request: dict[str, Any]) -> None:
    """Make OUT a bundle folder with the atlases in it, or find that it is one already.

    The request is written before the atlases are copied and the settings after them: a folder with a request and
    no settings is one whose copying was interrupted, and is copied anew.

    Args:
        job: what was asked for.
        method: of kind ``atlas``.
        request: what the run's ``request.json`` says or shall say.

    Raises:
        OptionError: an option is not possible.
        AtlasegError: a file of the data set is not as it must be; nothing has been written then.
    """
    from atlases.multi_atlas_bundle import is_atlas_bundle, read_settings

    if is_atlas_bundle(job.out):
        read_settings(job.out)  # says in one line where somebody has spoilt them
        print(f"{job.out}: already finished; nothing to do", file=sys.stderr)
    else:
        _put_together(job, method, request)
    print(f"Label scans with: atlaseg segment {job.out} SCANS --out LABELS")


def _put_together(job: Train, method: Method, request: dict[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from atlases.atlas import AtlasSet
    from atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlases.propagation import PropagationOptions
    from pipeline.bundle import cases_text
    from pipeline.files import write_text

    given: dict[str, Any] = {
        "transform": job.transform,
        "engine": job.engine,
        "keep": job.keep,
        "seed": job.seed,
    }
    options = PropagationOptions(**{name: value for name, value in given.items() if value is not None})
    options.steps()  # refuses what no engine has before files are read
    with ThreadPoolExecutor() as executor:
        everything = AtlasSet.read(job.dataset, executor=executor)
        training, validation = job.split(everything.dataset)
        segmenter = MultiAtlasSegmenter(fusion=str(method.fusion), options=options, executor=executor)
        segmenter.fit_atlases(everything.subset([case.name for case in training]))
        print(f"Copying {len(training)} atlases to {job.out}", file=sys.stderr)
        configs = job.out / "configs"
        write_text(configs / "cases.json", cases_text(training, validation, job.dataset))
        write_text(configs / "request.json", json.dumps(request, indent=1) + "\n")
        if job.correct:
            _correct(segmenter, job.out / WORK)
        segmenter.save(job.out)
    if job.correct:
        shutil.rmtree(job.out / WORK, ignore_errors=True)
    _say(job.out, method, segmenter.atlases, len(validation))


def _correct(segmenter: MultiAtlasSegmenter, work: Path) -> None:
    """Learn a correction; finished registrations are kept in a folder, so that an interrupted job goes on."""
    from contextlib import nullcontext

    from tqdm import tqdm

    from workflows.parallel import available_cores, worker_pool

    cores, copies = available_cores(), segmenter.executor
    total = len(segmenter.atlases)
    with worker_pool(cores) if cores > 1 else nullcontext() as executor, tqdm(total=total) as bar:
        bar.set_description("Learning from atlases")
        segmenter.executor, segmenter.work = executor, work

        def show(done: int, _: int) -> None:
            bar.update(done - bar.n)

        segmenter.learn_correction(progress=show)
        bar.update(total - bar.n)
    segmenter.executor, segmenter.work = copies, None


def _say(out: Path, method: Method, atlases: AtlasSet, validation: int) -> None:
    print(f"{len(atlases)} atlases with {len(atlases.labels) - 1} structures in {out}, method {method.name}")
    if validation:
        print(f"{validation} labelled case(s) kept for: atlaseg segment {out} --validation --out LABELS")
