"""Runs of methods that installed packages bring: trained, saved and opened by the package's own class."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlaseg.pipeline.segmenter import Segmenter
    from atlaseg.workflows.methods.family import Method
    from atlaseg.workflows.methods.labeller import Labeller
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["is_installed_run", "labeller_of_run", "make_segmenter", "open_run", "train_installed"]

#: Which method a run is of, and the channels of its scans; written last.
METHOD = Path("configs") / "method.json"
#: What the class saved.
SAVED = "method"


def is_installed_run(folder: Path) -> bool:
    """Whether a folder is a finished run of such a method."""
    return (folder / METHOD).is_file()


def make_segmenter(method: Method, words: Sequence[str], seed: int | None) -> Segmenter:
    """The segmenter of a method, before it has learnt anything.

    Args:
        method: of an installed package.
        words: ``name=value`` for keywords of its class.
        seed: given to a keyword ``seed``, if the class has one.

    Raises:
        OptionError: the class has no such keyword, or the value is of another type.
        PackageError: the class cannot be imported.
    """
    import inspect
    from typing import get_type_hints

    from atlaseg.pipeline.errors import PackageError
    from atlaseg.pipeline.options import read_options
    from atlaseg.pipeline.segmenter import Segmenter

    made: Any = method.part.load()
    hints = get_type_hints(made.__init__, include_extras=True)
    keywords = [name for name in inspect.signature(made).parameters if name in hints]
    options = read_options(words, {name: hints[name] for name in keywords}, method.name)
    if "seed" in keywords:
        options.setdefault("seed", seed or 0)
    segmenter = made(**options)
    if not isinstance(segmenter, Segmenter):
        raise PackageError(
            f"package {method.part.package}: {method.part.target} lacks fit, segment, save or load, which the method "
            f"{method.name} needs; update the package or uninstall it"
        )
    return segmenter


def train_installed(job: TrainingJob, method: Method, request: dict[str, Any]) -> None:
    """Make OUT a run of a method, or find that it is one already.

    Args:
        job: what was asked for.
        method: of an installed package.
        request: what the run's ``request.json`` shall say.
    """
    from atlaseg.pipeline.bundle import cases_text
    from atlaseg.pipeline.datasets import read_dataset
    from atlaseg.pipeline.io.files import write_text
    from atlaseg.workflows.inputs.channels import resolve_channels
    from atlaseg.workflows.inputs.checked_dataset import refuse_problems
    from atlaseg.workflows.inputs.run_request import write_request

    if is_installed_run(job.out):
        print(f"{job.out}: already finished; nothing to do", file=sys.stderr)
    else:
        segmenter = make_segmenter(method, job.option, job.seed)
        dataset = resolve_channels(read_dataset(job.dataset), refuse_problems(job.dataset), job.channels)
        training, validation = job.split(dataset, of_all="learn from all")
        write_text(job.out / "configs" / "cases.json", cases_text(training, validation, job.dataset))
        write_request(job.out, request)
        print(f"Learning {method.name} from {len(training)} labelled cases", file=sys.stderr)
        segmenter.fit(dataset.subset([case.name for case in training])).save(job.out / SAVED)
        about = {"method": method.name, "package": method.part.package, "channels": list(dataset.channels)}
        write_text(job.out / METHOD, json.dumps(about, indent=1) + "\n")
    print(f"Label scans with: atlaseg segment {job.out} SCANS --out LABELS")


def labeller_of_run(run: Path, *, masks: Path | None, probabilities: bool) -> Labeller:
    """What labels scans with a run; errors as :func:`open_run`, and where there are no such masks."""
    from atlaseg.workflows.methods.segmenter_labelling import SegmenterLabeller

    segmenter, channels = open_run(run)
    return SegmenterLabeller(segmenter, channels, masks=masks, probabilities=probabilities)


def open_run(run: Path) -> tuple[Segmenter, int]:
    """The segmenter of a run, and how many channels its scans have.

    Raises:
        OptionError: the package that brings the method is not installed.
        AtlasegError: the run is damaged.
    """
    from atlaseg.pipeline.errors import OptionError
    from atlaseg.pipeline.io.files import read_json, taking_apart
    from atlaseg.pipeline.whole_methods import WHOLE_METHODS

    with taking_apart(run / METHOD, "the method of a run"):
        about = read_json(run / METHOD, dict)
        name, channels = str(about["method"]), len(list(about["channels"]))
    if name not in WHOLE_METHODS:
        raise OptionError(
            f"{run}: learnt by the method {name}, which no installed package brings; install {about.get('package')}"
        )
    segmenter: Segmenter = WHOLE_METHODS.load(name).load(run / SAVED)
    return segmenter, channels
