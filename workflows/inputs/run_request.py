"""The request of a run, stored in its folder without paths, so that the same command resumes it wherever it lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.methods.option_groups import default_values, marked, values_of

if TYPE_CHECKING:
    from atlaseg.workflows.methods.family import Method
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["REQUEST", "is_begun", "request_of", "write_request"]

#: In the run's folder; written when all that training needs is there.
REQUEST = Path("configs") / "request.json"


def request_of(job: TrainingJob, method: Method) -> dict[str, Any]:
    """Options of a job that change its result, as plain values.

    Args:
        job: of training.
        method: that it names, or the default.

    Raises:
        AtlasegError: the data set, or the folder of scans without labels, cannot be read.
    """
    from atlaseg.pipeline.datasets.dataset_identity import identity
    from atlaseg.pipeline.datasets.dataset_search import files_digest
    from atlaseg.pipeline.datasets.listing import raise_at_once
    from atlaseg.pipeline.datasets.reader import list_dataset
    from atlaseg.pipeline.errors import MissingFileError
    from atlaseg.pipeline.io.scan_names import list_volumes

    free = marked(type(job), "free")
    values = values_of(job)
    request = {name: value for name, value in values.items() if name not in free}
    request["method"] = None if job.method is None else method.name
    request["dataset"] = identity(list_dataset(job.dataset, raise_at_once))
    request["plan"] = None if values["plan"] is None else _text(values["plan"])
    if (folder := values["unlabelled"]) is not None:
        if not folder.is_dir():
            raise MissingFileError(f"{folder}: no such folder of scans")
        request["unlabelled"] = {path.name: files_digest([path]) for path in list_volumes(folder).volumes}
    request["override"] = list(values["override"])
    request["channels"] = list(job.channels) or None
    request["option"] = list(job.option) or None
    return request


def write_request(out: Path, request: dict[str, Any]) -> None:
    """Store a request in the folder of a run."""
    from atlaseg.pipeline.io.files import write_text

    write_text(out / REQUEST, json.dumps(request, indent=1) + "\n")


def is_begun(job: TrainingJob, request: dict[str, Any], method: Method) -> bool:
    """Whether a job's folder holds an unfinished or finished run of the same request.

    Raises:
        OptionError: it holds something else, or a run with other options or of another data set.
    """
    from atlaseg.pipeline.datasets.dataset_identity import difference
    from atlaseg.pipeline.errors import OptionError
    from atlaseg.pipeline.io.files import read_json

    path = job.out / REQUEST
    if not path.is_file():
        if job.out.is_dir() and not _only_configs(job.out):
            raise OptionError(f"{job.out}: not empty and not a run of atlaseg train; choose another --out")
        return False
    earlier = _without_paths(job, read_json(path, dict), request)
    if earlier.get("method") in method.aliases:
        earlier["method"] = method.name
    # an earlier version may not have known an option yet
    defaults = default_values(type(job)) | {"option": None, "channels": None}
    different = [key for key in request if request[key] != earlier.get(key, defaults.get(key))]
    if "dataset" in different and (problem := difference(earlier.get("dataset"), request["dataset"])):
        raise OptionError(
            f"{job.out}: holds a run trained on another data set than {job.dataset} ({problem}); give that "
            "data set to resume the run, or another --out for a new one"
        )
    if different:
        raise OptionError(
            f"{job.out}: holds a run with another {', '.join(different)}; give the same options to "
            "resume it, or another --out for a new run"
        )
    return True


def _without_paths(job: TrainingJob, earlier: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """The stored request of a run; paths that version 0.1 stored in it are replaced in its file."""
    folders = {"dataset": job.dataset, "unlabelled": values_of(job)["unlabelled"]}
    kept = [key for key, path in folders.items() if path and earlier.get(key) == str(path.resolve())]
    if kept:
        earlier = {**earlier, **{key: request[key] for key in kept}}
        write_request(job.out, earlier)
    return earlier


def _text(path: Path) -> str:
    """A file's text for comparison, whatever it holds; `load_plan` says what is wrong with it."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _only_configs(folder: Path) -> bool:
    """Whether a folder is empty, or holds no more than a run that was killed before it began to train."""
    from atlaseg.pipeline.bundle import CONFIGS
    from atlaseg.pipeline.bundle_scripts import script_files
    from atlaseg.pipeline.io.files import WRITING

    written = {*CONFIGS, "plan.yaml", "cases.json", "metadata.json", "logging.conf"}
    parts = {"configs": written, "scripts": set(script_files())}
    return all(
        path.name in parts
        and path.is_dir()
        and all(p.name in parts[path.name] or p.name.startswith(WRITING) for p in path.iterdir())
        for path in folder.iterdir()
    )
