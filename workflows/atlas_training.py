"""The part of ``atlaseg train`` for atlas methods: nothing is trained, the atlases are checked and put together."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from atlases.atlas import AtlasSet
    from workflows.methods import Method
    from workflows.train import Train

__all__ = ["train_atlases"]


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
        segmenter.save(job.out)
    _say(job.out, method, segmenter.atlases, len(validation))


def _say(out: Path, method: Method, atlases: AtlasSet, validation: int) -> None:
    print(f"{len(atlases)} atlases with {len(atlases.labels) - 1} structures in {out}, method {method.name}")
    if validation:
        print(f"{validation} labelled case(s) kept for: atlaseg segment {out} --validation --out LABELS")
