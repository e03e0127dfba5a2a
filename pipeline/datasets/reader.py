"""Read data sets of any layout, recognised from the files of the folder."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path

from atlaseg.pipeline.case import Dataset, LabelTable, value_counts
from atlaseg.pipeline.datasets.listing import DESCRIPTION, Layout, Listing, Report, raise_at_once
from atlaseg.pipeline.datasets.registry import LAYOUTS
from atlaseg.pipeline.errors import DatasetError, LabelError, MissingFileError
from atlaseg.pipeline.expressions import is_expression, is_key_of_code
from atlaseg.pipeline.io.volume import read_label_map

__all__ = ["check_values", "is_dataset", "label_values", "list_dataset", "read_dataset"]

#: A label map with more values than this is taken for an image in the wrong folder.
MOST_VALUES = 1000


def read_dataset(folder: Path | str, *, executor: Executor | None = None) -> Dataset:
    """Data set of a folder in any known layout.

    Label maps are opened only where no file names the label values (plain folders without ``labels.json``).

    Args:
        folder: in one of :data:`atlaseg.pipeline.datasets.registry.LAYOUTS`.
        executor: reads label maps in parallel, where they must be read.

    Raises:
        MissingFileError: the folder, or a file that belongs to a case, is not there.
        DatasetError: the layout is not known, the folder holds no labelled case, names repeat, or a path
            leaves the folder.
        LabelError, UnreadableFileError, GeometryError: a label map that had to be read is not usable.
    """
    folder = Path(folder)
    listing = list_dataset(folder, raise_at_once)
    labels = listing.labels
    if labels is None:
        files = [case.label for case in listing.cases if case.label is not None]
        found = executor.map(label_values, files) if executor else map(label_values, files)
        labels = _table(found)
    dataset = Dataset(listing.name, listing.cases, labels, listing.channels, listing.channels_named_by)
    if not dataset.labelled:
        raise DatasetError(f"{folder}: no case with a label map ({listing.layout}); add at least one")
    return dataset


def list_dataset(folder: Path, report: Report) -> Listing:
    """Cases of a folder in any known layout, before any label map is read.

    Args:
        folder: of the data set.
        report: takes each problem of a single file or case.

    Raises:
        MissingFileError: there is no such folder.
        DatasetError: the layout is not known, or the file that describes it cannot be used.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder; give the folder of a data set")
    listing = _in_its_layout(folder, report)
    for name in (*listing.channels, *(listing.labels.names if listing.labels else ())):
        if is_expression(name) or is_key_of_code(name):
            problem = f"channel or structure name {name!r}: configs of runs take no @, %, leading $ or _"
            report(DatasetError(f"{folder}: {problem}; rename it"), folder)
    return listing


def _in_its_layout(folder: Path, report: Report) -> Listing:
    for row in LAYOUTS.rows():
        layout: Layout = row.load()
        if layout.recognises(folder):
            return layout.list_cases(folder, report)
    raise DatasetError(
        f"{folder}: not a data set; expected {', or '.join(row.summary for row in LAYOUTS.rows())}; "
        f"found {_contents(folder)}"
    )


def is_dataset(folder: Path) -> bool:
    """Whether a folder is meant to be a data set: one of the layouts, or a ``dataset.json`` even with mistakes."""
    return (folder / DESCRIPTION).is_file() or (
        folder.is_dir() and any(row.load().recognises(folder) for row in LAYOUTS.rows())
    )


def _contents(folder: Path) -> str:
    names = sorted(
        path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith(".")
    )
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5) if names else "an empty folder"


def label_values(path: Path) -> list[int]:
    """Label values that a label map holds, in rising order.

    Raises:
        LabelError: a value is negative, or there are so many that the file must be an image.
        UnreadableFileError, GeometryError: as :func:`atlaseg.pipeline.io.volume.read_label_map`.
    """
    return check_values(value_counts(read_label_map(path)), path)


def check_values(values: Iterable[int], path: Path) -> list[int]:
    """The values in rising order, if they can be labels without names.

    Raises:
        LabelError: a value is negative, or there are more than a label map can sensibly hold.
    """
    found = sorted(values)
    if found and found[0] < 0:
        raise LabelError(f"{path}: label value {found[0]} is negative; labels count from 0, the background")
    if len(found) > MOST_VALUES:
        raise LabelError(
            f"{path}: {len(found)} different values, is it an image? If not, name them in labels.json"
        )
    return found


def _table(values: Iterable[Iterable[int]]) -> LabelTable:
    return LabelTable.from_values(value for found in values for value in found)
