"""The plain layout: ``images/`` and ``labels/`` with equal file names.

Several channels are ``images/NAME_0000.nii.gz``, ``images/NAME_0001.nii.gz``, ... for
``labels/NAME.nii.gz``, or one 4-D file. Optional: ``labels.json``, ``{structure name: value}``, and
``channels.json``, a list of names such as ``["CT"]``. Images without a label map are unlabelled cases.
"""

from __future__ import annotations

from pathlib import Path

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.datasets.listing import (
    UNNAMED,
    CaseList,
    Layout,
    Listing,
    Report,
    left_out,
    read_json,
    volumes_in,
)
from atlaseg.pipeline.errors import AtlasegError, DatasetError, LabelError, MissingFileError
from atlaseg.pipeline.io.scan_names import group_scans, volume_name
from atlaseg.pipeline.io.volume import header_problems, volumes_of
from atlaseg.pipeline.schema import shortened

__all__ = ["LAYOUT", "list_folders"]

TITLE = "images/ and labels/"
CHANNELS = "channels.json"


def _recognises(folder: Path) -> bool:
    """Whether it holds ``images/`` and ``labels/``."""
    return (folder / "images").is_dir() and (folder / "labels").is_dir()


def list_folders(folder: Path, report: Report) -> Listing:
    """Cases of ``images/``, each with the file of the same name in ``labels/`` if there is one.

    Raises:
        DatasetError: ``labels.json`` or ``channels.json`` is not what it should be.
    """
    labels = {volume_name(path): path for path in volumes_in(folder / "labels", report)}
    channels = _named_channels(folder / CHANNELS)
    grouping = group_scans(
        volumes_in(folder / "images", report), len(channels) if channels else None, volumes_of, known=labels
    )
    for path, problem in grouping.problems.items():
        report(DatasetError(f"{path}: {problem}"), path)
    cases = CaseList(report)
    for name, files in grouping.scans.items():
        cases.add(name, files, labels.get(name))
    for name, path in labels.items():
        if name not in grouping.scans:
            problem = f"label map without an image of that name in {folder / 'images'}"
            report(MissingFileError(f"{path}: {problem}; add it or rename it"), path)
    found = cases.sorted()
    return Listing(
        folder=folder,
        layout=TITLE,
        name=UNNAMED,
        cases=found,
        labels=_named_labels(folder / "labels.json"),
        channels=channels or _found_channels([case.images for case in found], report),
        left_out=left_out((file for case in found for file in case.files), listed=False),
        channels_named_by=CHANNELS if channels else None,
        absent_labels={
            case.name: folder / "labels" / f"{case.name}.nii.gz" for case in found if case.label is None
        },
    )


def _named_labels(path: Path) -> LabelTable | None:
    if not path.is_file():
        return None
    content = read_json(path)
    for name, value in content.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise DatasetError(f"{path}: label {name!r} must be a whole number, found {value!r}")
    try:
        return LabelTable.from_names(content)
    except LabelError as error:
        raise DatasetError(f"{path}: {error}") from error


def _named_channels(path: Path) -> tuple[str, ...]:
    """Channel names from ``channels.json``, none where there is no such file."""
    if not path.is_file():
        return ()
    names = read_json(path, object)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DatasetError(
            f'{path}: expected a list of channel names such as ["CT"], found {shortened(names)}'
        )
    return tuple(names)


def _found_channels(images: list[tuple[Path, ...]], report: Report) -> tuple[str, ...]:
    """Channel names made from the number in the first case."""
    for files in images:
        try:
            number = sum(header_problems(file)[0].channels for file in files)
        except AtlasegError as error:
            report(error, files[0])
        else:
            return ("MRI",) if number == 1 else tuple(f"channel {i}" for i in range(number))
    return ("MRI",)


LAYOUT = Layout(_recognises, list_folders)
