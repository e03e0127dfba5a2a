"""``atlaseg train`` for classical methods."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from atlaseg.workflows.methods.family import Method
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["masks_of", "options_of", "train_classical"]


def train_classical(job: TrainingJob, method: Method, request: dict[str, Any]) -> None:
    """Make OUT a bundle folder of a classical method, or find that it is one already.

    Masks in ``masks/`` of the data set are used: the method then looks inside masks only.

    Args:
        job: what was asked for.
        method: a classical one.
        request: what the run's ``request.json`` says or shall say.

    Raises:
        OptionError: an option is not possible.
        AtlasegError: a file of the data set is not as it must be; nothing has been written then.
    """
    from atlaseg.pipeline.classical.classical_bundle import is_classical_bundle, read_bundle

    if is_classical_bundle(job.out):
        read_bundle(job.out)  # says in one line where somebody has spoilt it
        print(f"{job.out}: already finished; nothing to do", file=sys.stderr)
    else:
        _learn(job, method, request)
    print(f"Label scans with: atlaseg segment {job.out} SCANS --out LABELS")


def _learn(job: TrainingJob, method: Method, request: dict[str, Any]) -> None:
    import time

    from atlaseg.pipeline.bundle import cases_text
    from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
    from atlaseg.pipeline.datasets import read_dataset
    from atlaseg.pipeline.io.files import write_text
    from atlaseg.workflows.inputs.channels import resolve_channels
    from atlaseg.workflows.inputs.checked_dataset import refuse_problems
    from atlaseg.workflows.inputs.run_request import write_request

    options = options_of(method.part.name, job)
    segmenter = ClassicalSegmenter(method=method.part.name, options=options, seed=job.seed or 0)
    dataset = resolve_channels(read_dataset(job.dataset), refuse_problems(job.dataset), job.channels)
    training, validation = job.split(dataset, of_all="learn from all")
    names = [case.name for case in training]
    masks = masks_of(job.dataset, names)
    inside = " inside their masks" if masks else ""
    print(f"Learning {method.name} from {len(names)} labelled cases{inside}", file=sys.stderr)
    begun = time.monotonic()
    segmenter.fit(dataset.subset(names), masks)
    configs = job.out / "configs"
    write_text(configs / "cases.json", cases_text(training, validation, job.dataset))
    write_request(job.out, request)
    segmenter.save(job.out)
    structures = len(dataset.labels) - 1
    if segmenter.chosen:
        chosen = ", ".join(f"{name}={value:g}" for name, value in segmenter.chosen.items())
        print(f"Chosen by scans held out of the training: {chosen}")
    print(
        f"{method.name} knows {structures} structures from {len(names)} cases, in {job.out} "
        f"({time.monotonic() - begun:.0f} s)"
    )
    if validation:
        print(
            f"{len(validation)} labelled case(s) kept for: atlaseg segment {job.out} --validation --out LABELS"
        )


def options_of(name: str, job: TrainingJob) -> dict[str, Any]:
    """Options of a classical method, as a job says them.

    Raises:
        OptionError: the method has no such option, or takes none when it learns.
    """
    from atlaseg.pipeline.classical.registry import kind_of, read_options
    from atlaseg.pipeline.errors import OptionError

    if job.option and kind_of(name) == "seeded":
        raise OptionError(
            f"--option: {name} learns its own limits; options are for seeds that a person gives"
        )
    return read_options(name, job.option)


def masks_of(folder: Path, names: list[str]) -> dict[str, Path] | None:
    """Mask files of the named cases, where the data set has a folder of them.

    Raises:
        MissingFileError: a mask belongs to no case.
        GeometryError, DatasetError: a mask is not on its scan's grid, or empty.
    """
    if not (folder / "masks").is_dir():
        return None
    from atlaseg.atlases.atlas_set import AtlasSet

    atlases = AtlasSet.read(folder).subset(names)
    atlases.check()
    return atlases.masks
