"""Folds of a benchmark: which cases train and which test, and folders that show a method these and no label more."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.io.files import WRITING
from atlaseg.pipeline.io.scan_names import find_volume, list_volumes, suffix_of

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Case, Dataset

__all__ = [
    "BenchmarkFold",
    "TestScans",
    "choose_training",
    "link_or_copy",
    "make_folds",
    "refuse_test_scans",
    "show_scans",
    "show_training",
]


@dataclass(frozen=True)
class BenchmarkFold:
    """Names of the cases of one fold.

    Args:
        number: from 0.
        training: in the order in which they are taken where only some may be.
        test: sorted.
    """

    number: int
    training: tuple[str, ...]
    test: tuple[str, ...]


def make_folds(
    names: Sequence[str], folds: int, seed: int, first: int | None = None, last: int | None = None
) -> list[BenchmarkFold]:
    """Deal cases into folds, or take the first by name for training and the last for testing.

    The order of a fold's training cases is drawn from the seed and the number of the fold: of 5 and of 10 cases, the
    5 are among the 10.

    Raises:
        OptionError: too few cases, or only one of ``first`` and ``last``.

    >>> [fold.test for fold in make_folds("abcd", folds=2, seed=0)]
    [('c', 'd'), ('a', 'b')]
    >>> [(sorted(fold.training), fold.test) for fold in make_folds("abcd", folds=5, seed=0, first=2, last=1)]
    [(['a', 'b'], ('d',))]
    """
    import numpy as np

    from atlaseg.pipeline.datasets.splits import split_folds

    if (first is None) != (last is None):
        raise OptionError(
            "--first and --last go together: the first cases by name train, the last are tested"
        )
    if first is not None and last is not None:
        ordered = sorted(names)
        if first < 1 or last < 1 or first + last > len(ordered):
            raise OptionError(
                f"--first {first} and --last {last}: there are {len(ordered)} labelled cases; choose fewer, 1 or more"
            )
        dealt = [(tuple(ordered[:first]), tuple(ordered[-last:]))]
    else:
        dealt = split_folds(names, folds, seed)
    result = []
    for number, (training, test) in enumerate(dealt):
        order = np.random.RandomState([seed, number]).permutation(len(training))
        result.append(BenchmarkFold(number, tuple(training[i] for i in order), test))
    return result


def choose_training(fold: BenchmarkFold, labels: int | None) -> tuple[str, ...]:
    """Names of the training cases, sorted: all of the fold, or so many.

    Raises:
        OptionError: the fold has fewer.
    """
    if labels is None:
        return tuple(sorted(fold.training))
    if not 1 <= labels <= len(fold.training):
        raise OptionError(
            f"--labels {labels}: fold {fold.number} has {len(fold.training)} training cases; choose 1 to that many"
        )
    return tuple(sorted(fold.training[:labels]))


def refuse_test_scans(folder: Path, test: Sequence[Case]) -> None:
    """Refuse further scans, to learn from without labels, among which are test scans, under whatever name.

    Args:
        folder: of the further scans.
        test: all test cases.

    Raises:
        OptionError: a scan has the voxels of a test scan.
        MissingFileError: there is no such folder.
    """
    import numpy as np

    from atlaseg.atlases.propagation.work_folder import digest_of_arrays
    from atlaseg.pipeline.errors import MissingFileError
    from atlaseg.pipeline.io.volume import read_voxels

    def digest(file: Path) -> str:
        return digest_of_arrays(read_voxels(file).astype(np.float32))

    if not folder.is_dir():
        raise MissingFileError(f"unlabelled={folder}: no such folder")
    tested = {digest(file): case.name for case in test for file in case.images}
    for file in list_volumes(folder).volumes:
        if (name := tested.get(digest(file))) is not None:
            raise OptionError(
                f"{file}: is the scan of test case {name}, of which nothing may be used; take it out of the folder"
            )


def show_training(folder: Path, dataset: Dataset, names: Sequence[str], masks: Path | None) -> Path:
    """A data set of some cases of another one, in the layout ``images/`` and ``labels/``; returns its folder.

    Files are hard links where the file system allows it and copies elsewhere, but no symbolic links, so that no way
    leads back to the other cases.

    Args:
        folder: to be made; one that is there is taken as it is.
        dataset: with these cases.
        names: of the cases.
        masks: folder of masks with the names of the cases, if there is one.
    """
    from atlaseg.pipeline.io.files import write_text

    if folder.is_dir():
        return folder
    making = _fresh(folder)
    for case in dataset.subset(names).cases:
        _take_images(case, making / "images")
        if case.label is not None:
            link_or_copy(case.label, making / "labels" / f"{case.name}{suffix_of(case.label)}")
        _take_mask(masks, case.name, making / "masks")
    table = dict(zip(dataset.labels.names, dataset.labels.values, strict=True))
    write_text(making / "labels.json", json.dumps(table) + "\n")
    write_text(making / "channels.json", json.dumps(dataset.channels) + "\n")
    making.rename(folder)
    return folder


@dataclass(frozen=True)
class TestScans:
    """Scans of test cases, away from their labels.

    Args:
        files: of each case.
        masks: folder of their masks, if there are any.
    """

    __test__ = False  # not one of pytest's

    files: dict[str, tuple[Path, ...]]
    masks: Path | None


def show_scans(folder: Path, cases: Sequence[Case], masks: Path | None) -> TestScans:
    """Scans of cases without their labels; arguments as of :func:`show_training`."""
    if not folder.is_dir():
        making = _fresh(folder)
        for case in cases:
            _take_images(case, making / "images")
            _take_mask(masks, case.name, making / "masks")
        making.rename(folder)
    files = {case.name: _image_files(case, folder / "images") for case in cases}
    return TestScans(files, folder / "masks" if (folder / "masks").is_dir() else None)


def _fresh(folder: Path) -> Path:
    """An empty folder beside the one to be made, which takes its name when all is in it."""
    making = folder.with_name(f"{WRITING}{folder.name}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    return making


def _image_files(case: Case, folder: Path) -> tuple[Path, ...]:
    if len(case.images) == 1:
        return (folder / f"{case.name}{suffix_of(case.images[0])}",)
    return tuple(folder / f"{case.name}_{c:04d}{suffix_of(path)}" for c, path in enumerate(case.images))


def _take_images(case: Case, folder: Path) -> None:
    for source, target in zip(case.images, _image_files(case, folder), strict=True):
        link_or_copy(source, target)


def _take_mask(masks: Path | None, name: str, folder: Path) -> None:
    found = None if masks is None else find_volume(masks, (name,))
    if found is not None:
        link_or_copy(found, folder / f"{name}{suffix_of(found)}")


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """The same file under another name where the file system allows it, a copy elsewhere."""
    source, target = Path(source), Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
