"""Split the paths given to ``atlaseg segment`` into models (runs, or a folder of labelled scans) and scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.workflows.methods.families import LABELLED_SCANS, SEEDS, family_of_run

if TYPE_CHECKING:
    from atlaseg.workflows.methods.family import Source
    from atlaseg.workflows.methods.labelling_job import LabellingJob

__all__ = ["Models", "find_models", "models_among"]


@dataclass(frozen=True)
class Models:
    """What the paths of a command line are.

    Args:
        source: what labels the scans.
        folders: of the models; one, unless they are an ensemble; none with seeds.
        rest: paths of the scans.
    """

    source: Source
    folders: tuple[Path, ...]
    rest: tuple[Path, ...]


def find_models(job: LabellingJob) -> Models:
    """Split paths into models and scans.

    Raises:
        OptionError: there is no model among the paths, or several that do not go together.
    """
    return Models(SEEDS, (), job.paths) if SEEDS.is_asked_for(job) else models_among(job.paths)


def models_among(paths: tuple[Path, ...]) -> Models:
    """Tell models from other paths; errors as :func:`find_models`."""
    from atlaseg.pipeline.errors import OptionError
    from atlaseg.workflows.inputs.scan_files import is_dataset

    runs = [(path, family) for path in paths if (family := family_of_run(path)) is not None]
    if runs:
        path, family = runs[0]
        for other, of_another in runs[1:]:
            if not (family is of_another and family.ensembles):
                raise OptionError(
                    f"{path} {family.run} and {other} {of_another.run}: they cannot be joined, name one of them"
                )
        folders = tuple(path for path, _ in runs)
        return Models(family, folders, tuple(path for path in paths if path not in folders))
    if paths and is_dataset(paths[0]):
        return Models(LABELLED_SCANS, paths[:1], paths[1:])
    raise OptionError(
        f"none of {', '.join(map(str, paths))} is a run of atlaseg train, and the first is not a folder of labelled "
        "scans (with dataset.json, or images/ and labels/)"
    )
