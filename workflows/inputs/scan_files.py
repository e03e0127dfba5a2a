"""Find the scans to segment: files, folders, channels, or the validation cases of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlaseg.pipeline.io.scan_names import Grouping

__all__ = ["FoundScans", "digits_of", "find_scans", "is_dataset", "validation_scans"]


def is_dataset(folder: Path) -> bool:
    """Whether a folder looks like labelled scans in a layout of ``read_dataset``."""
    plain = (folder / "images").is_dir() and (folder / "labels").is_dir()
    return plain or (folder / "dataset.json").is_file()


def validation_scans(run: Path | str, dataset: Path | None = None) -> dict[str, tuple[Path, ...]]:
    """Scans of a run's validation cases, as `atlaseg train` left them out.

    Args:
        run: its folder.
        dataset: folder of the data set; by default it is looked for near the run.

    Raises:
        MissingFileError: the run lacks its list of cases, or the data set is not found.
        UnreadableFileError: the list is damaged.
        DatasetError: a name is not usable as a file name, or the data set is another one.
    """
    from atlaseg.pipeline.case import Case
    from atlaseg.pipeline.datasets.dataset_search import dataset_of_run

    run = Path(run)
    lists = run / "configs" / "cases.json"
    folder = dataset_of_run(run, dataset)
    # a Case refuses names that lead out of the folder of results
    cases = [
        Case(name, tuple(folder / path for path in images))
        for name, images in _named_cases(lists, "validation")
    ]
    return {case.name: case.images for case in cases}


def _named_cases(lists: Path, *parts: str) -> list[tuple[str, list[str]]]:
    """Name and image files of the cases in the list that a run has.

    Raises:
        UnreadableFileError: the list is damaged.
    """
    from atlaseg.pipeline.io.files import read_json, taking_apart

    with taking_apart(lists, "the cases of a run"):
        content = read_json(lists)
        return [
            (str(entry["name"]), [str(path) for path in entry["image"]])
            for part in parts
            for entry in content[part]
        ]


def digits_of(models: Sequence[Path]) -> bool | None:
    """Whether four digits belong to the names of scans, as far as the cases of a model show.

    Args:
        models: runs, or a folder of labelled scans.

    Raises:
        AtlasegError: a list of cases is damaged, or the folder is no data set.
    """
    from atlaseg.pipeline.datasets import list_dataset
    from atlaseg.pipeline.io.scan_names import digits_in_names

    for folder in models:
        lists = folder / "configs" / "cases.json"
        cases: list[tuple[str, Sequence[Path]]] = []
        if lists.is_file():
            cases = [
                (name, [Path(path) for path in images])
                for name, images in _named_cases(lists, "training", "validation")
            ]
        elif is_dataset(folder):
            # what is wrong with a file of the data set is said where it is used
            listing = list_dataset(folder, lambda _error, _file: None)
            cases = [(case.name, case.images) for case in listing.cases if case.label is not None]
        told = digits_in_names(cases)
        if told is not None:
            return told
    return None


@dataclass(frozen=True)
class FoundScans:
    """Scans to segment, and further files found.

    Args:
        files: of each scan by its name, one for each channel or one for all.
        problems: files that are most likely scans and cannot be taken, by name, and why.
        notes: what else was left out, a line each.
    """

    files: dict[str, tuple[Path, ...]]
    problems: dict[str, str]
    notes: tuple[str, ...]


def find_scans(images: tuple[Path, ...], channels: int, digits: bool | None = None) -> FoundScans:
    """Scans by name, each with the files of its channels.

    A file stands for the scan that it belongs to: naming one channel is naming all. What a scan is called does not
    depend on whether its file or its folder was named.

    Args:
        images: files and folders.
        channels: how many the model expects.
        digits: whether four digits belong to names, as :func:`atlaseg.pipeline.io.scan_names.digits_in_names`
            says of the model's own cases.

    Raises:
        MissingFileError: a path does not exist.
        DatasetError: there are no scans, or two of the same name.
    """
    from atlaseg.pipeline.errors import DatasetError, MissingFileError
    from atlaseg.pipeline.io.scan_names import name_problem

    found = FoundScans({}, {}, ())
    notes: list[str] = []
    taken: dict[str, str] = {}

    def add(name: str, files: tuple[Path, ...]) -> None:
        if [path.absolute() for path in found.files.get(name, ())] == [path.absolute() for path in files]:
            return
        if (other := taken.get(name.casefold())) is not None:
            raise DatasetError(
                f"{files[0]}: there is another scan called {other}; results would replace each other"
            )
        if problem := name_problem(name):
            raise DatasetError(f"{files[0]}: {problem}")
        taken[name.casefold()] = name
        found.files[name] = files

    for path in images:
        if path.is_dir():
            grouping = _of_folder(path, channels, digits, notes, found.problems)
            for name, files in grouping.scans.items():
                add(name, files)
            found.problems.update({file.name: problem for file, problem in grouping.problems.items()})
        elif path.is_file():
            grouping = _of_file(path, channels, digits)
            mine = {name: files for name, files in grouping.scans.items() if path in files}
            for name, files in mine.items():
                add(name, files)
            if not mine:
                found.problems[path.name] = _problem_of(path, grouping)
        else:
            raise MissingFileError(f"{path}: no such file or folder")
    if not found.files and not found.problems:
        hints = f" ({'; '.join(notes)})" if notes else ""
        raise DatasetError(f"no .nii or .nii.gz file in {', '.join(map(str, images))}{hints}")
    return replace(found, notes=tuple(notes))


def _of_folder(
    folder: Path, channels: int, digits: bool | None, notes: list[str], problems: dict[str, str]
) -> Grouping:
    from atlaseg.pipeline.errors import DatasetError
    from atlaseg.pipeline.io.scan_names import group_scans, list_volumes
    from atlaseg.pipeline.io.volume import volumes_of

    listed = list_volumes(folder)
    for path, problem in listed.refused.items():
        raise DatasetError(f"{path}: {problem}")
    problems.update({path.name: problem for path, problem in listed.scans.items()})
    notes.extend(listed.notes())
    return group_scans(listed.volumes, channels, volumes_of, digits=digits)


def _problem_of(path: Path, grouping: Grouping) -> str:
    """Why a file cannot be used as a scan: its own problem, or that of other channels."""
    from atlaseg.pipeline.io.scan_names import split_channel

    own = split_channel(path) or ("", 0)
    return next(
        problem
        for file, problem in grouping.problems.items()
        if file == path or (split_channel(file) or (None, 0))[0] == own[0]
    )


def _of_file(path: Path, channels: int, digits: bool | None) -> Grouping:
    """Scans of the folder of a file, as far as they may have to do with it."""
    from atlaseg.pipeline.io.scan_names import group_scans, is_volume, split_channel, suffix_of
    from atlaseg.pipeline.io.volume import volumes_of

    siblings = [path]
    if split_channel(path) is not None and suffix_of(path):
        siblings = [
            file
            for file in path.parent.iterdir()
            if is_volume(file)
            and suffix_of(file).lower() == suffix_of(path).lower()
            and file.name != path.name
        ]
        siblings = sorted([*siblings, path])
    return group_scans(siblings, channels, volumes_of, digits=digits)
