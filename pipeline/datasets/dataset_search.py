"""Find the data set that a run has learnt from: a run stores no path, so it is looked for near the run.

A run carries a copy of this file for MONAI alone (see :mod:`atlaseg.pipeline.bundle_scripts`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from atlaseg.pipeline.errors import DatasetError, MissingFileError
from atlaseg.pipeline.io.files import read_json, taking_apart

__all__ = ["DATASET_LINK", "dataset_of_run", "files_digest"]

#: Parts of a file that are looked at, spread evenly from its first to its last bytes, and the size of each.
_PARTS, _PART_BYTES = 16, 4096
#: So many folders near a run are looked at, and no more.
_MOST_FOLDERS = 5000
_NAME_IT = "name its folder by --dataset (where MONAI runs the configs, by --dataset_dir)"
#: In the folder of a run, a data set of this name (or a link to it) is found before all others.
DATASET_LINK = "dataset"


def files_digest(files: Sequence[Path]) -> str:
    """Digest of some files, without their names.

    Raises:
        MissingFileError: one is not there.
    """
    digest = hashlib.sha256()
    for path in files:
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file")
        size = path.stat().st_size
        with path.open("rb") as stream:
            digest.update(f"{size} ".encode())
            for part in range(_PARTS):
                stream.seek(max(0, size - _PART_BYTES) * part // (_PARTS - 1))
                digest.update(stream.read(_PART_BYTES))
    return digest.hexdigest()[:16]


def dataset_of_run(run: Path | str, named: Path | None = None) -> Path:
    """Find the folder of the data set that a run was trained on.

    A run holds no path of it. Without a name, it is looked for where runs and data sets lie near each other:
    ``dataset`` in the run's folder, then up to two levels below the folder that holds the run, the one above that,
    and the current folder. The first is taken that has the very files of the run's cases.

    Args:
        run: its folder.
        named: where the data set is said to be.

    Raises:
        MissingFileError: there is no such data set, or it is not found.
        DatasetError: the named one lacks the cases.
        UnreadableFileError: the run's own lists are damaged.
    """
    kept, cases = _cases_of_run(Path(run))
    if named is not None:
        if not named.is_dir():
            raise MissingFileError(f"{named}: no such folder; give the folder of the data set")
        if problem := _lacking(named, cases):
            raise DatasetError(f"{named}: not the data set of {run}: {problem.text}")
        return named
    changed = ""
    for folder in (kept,) if kept is not None else _near(Path(run)):
        problem = _lacking(folder, cases)
        if problem is None:
            return folder
        if problem.changed:
            changed = f" ({folder} has such cases, but {problem.text})"
    raise MissingFileError(
        f"{run}: its data set is not found near the run{changed}, which holds no path of it; {_NAME_IT}"
    )


@dataclass(frozen=True)
class _KnownCase:
    name: str
    images: tuple[str, ...]  # as seen from the data set
    digest: str | None  # a run of version 0.1 has none


@dataclass(frozen=True)
class _Problem:
    """Why a folder is not the data set of a run, in words; and whether only the content of its files differs."""

    text: str
    changed: bool


def _cases_of_run(run: Path) -> tuple[Path | None, list[_KnownCase]]:
    """The validation cases, or the others where there are none; and the folder that a run of version 0.1 has kept."""
    lists, request = run / "configs" / "cases.json", run / "configs" / "request.json"
    for path in (lists, request):
        if not path.is_file():
            raise MissingFileError(
                f"{path}: not there, so the cases of the run are not known; name the scans"
            )
    with taking_apart(request, "the options of a run"):
        stored = read_json(request, dict)["dataset"]
        known = {} if isinstance(stored, str) else stored["cases"]
        digests = {name: str(case["images"]) for name, case in known.items()}
    with taking_apart(lists, "the cases of a run"):
        content = read_json(lists, dict)
        cases = [
            _KnownCase(str(case["name"]), tuple(map(str, case["image"])), digests.get(case["name"]))
            for case in content["validation"] or content["training"]
        ]
    kept = Path(stored) if isinstance(stored, str) and Path(stored).is_dir() else None
    return kept, cases


def _lacking(folder: Path, cases: Sequence[_KnownCase]) -> _Problem | None:
    """Why a folder is not the data set of these cases."""
    for case in cases:
        paths = [folder / file for file in case.images]
        for file, path in zip(case.images, paths, strict=True):
            if not path.is_file():
                return _Problem(f"it has no {file}", changed=False)
        if case.digest is not None and files_digest(paths) != case.digest:
            return _Problem(f"the scan of case {case.name} is another", changed=True)
    return None


def _near(run: Path) -> Iterator[Path]:
    yield run / DATASET_LINK
    run = run.resolve()
    homes = dict.fromkeys((run.parent, run.parent.parent, Path.cwd()))
    yield from islice((folder for home in homes for folder in _below(home, levels=2)), _MOST_FOLDERS)


def _below(folder: Path, levels: int) -> Iterator[Path]:
    """A folder and those in it, the nearest first."""
    yield folder
    folders = [folder]
    for _ in range(levels):
        inner: list[Path] = []
        for outer in folders:
            # a folder that may not be looked into holds nothing to be found
            with suppress(OSError):
                inner += sorted(path for path in outer.iterdir() if path.is_dir() and path.name[:1] != ".")
        yield from inner
        folders = inner
