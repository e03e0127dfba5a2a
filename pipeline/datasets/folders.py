"""The plain layout: ``images/`` and ``labels/`` with equal file names.

Several channels are ``images/NAME_0000.nii.gz``, ``images/NAME_0001.nii.gz``, ... for
``labels/NAME.nii.gz``, or one 4-D file. Optional: ``labels.json``, ``{structure name: value}``, and
``channels.json``, a list of names such as ``["CT"]``. Images without a label map are unlabelled cases.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.case import LabelTable
from pipeline.datasets.listing import CaseList, Listing, Report, read_json, split_channel, volumes_in
from pipeline.errors import AtlasegError, DatasetError, LabelError, MissingFileError
from pipeline.scan_names import volume_name
from pipeline.schema import shortened
from pipeline.volume import header_problems

__all__ = ["list_folders"]

LAYOUT = "images/ and labels/"


def list_folders(folder: Path, report: Report) -> Listing:
    """Cases of ``images/``, each with the file of the same name in ``labels/`` if there is one.

    Raises:
        DatasetError: ``labels.json`` or ``channels.json`` is not what it should be.
    """
    labels = _label_files(folder, report)
    images = volumes_in(folder / "images", report)
    cases = CaseList(report)
    groups = _channel_groups(images, labels) or [(volume_name(path), [path]) for path in images]
    for name, files in groups:
        cases.add(name, files, labels.get(name))
    known = {name for name, _ in groups}
    for name, path in labels.items():
        if name not in known:
            problem = f"label map without an image of that name in {folder / 'images'}"
            report(MissingFileError(f"{path}: {problem}; add it or rename it"), path)
    found = cases.sorted()
    return Listing(
        folder=folder,
        layout=LAYOUT,
        name=folder.resolve().name,
        cases=found,
        labels=_named_labels(folder / "labels.json"),
        channels=_channels(folder / "channels.json", [case.images for case in found], report),
        absent_labels={
            case.name: folder / "labels" / f"{case.name}.nii.gz" for case in found if case.label is None
        },
    )


def _label_files(folder: Path, report: Report) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in volumes_in(folder / "labels", report):
        name = volume_name(path)
        if name in found:
            problem = f"case name {name} is also that of {found[name]}; names must be unique, remove one"
            report(DatasetError(f"{path}: {problem}"), path)
        else:
            found[name] = path
    return found


def _channel_groups(images: list[Path], labels: dict[str, Path]) -> list[tuple[str, list[Path]]]:
    """Files by case where names are channels, else nothing.

    ``scan_0001`` may be channel 1 of ``scan`` or the second of many scans; the names of the label maps tell.
    """
    parts = [split_channel(path) for path in images]
    groups: dict[str, list[Path]] = {}
    for path, part in zip(images, parts, strict=True):
        if part is None or volume_name(path) in labels:
            return []
        groups.setdefault(part[0], []).append(path)
    if not set(groups) & set(labels):
        return []
    number = max(part[1] for part in parts if part is not None) + 1
    # Every case gets every channel, in order, so that one that is not there is missed by name.
    return [
        (name, [_channel_file(files, name, channel) for channel in range(number)])
        for name, files in groups.items()
    ]


def _channel_file(files: list[Path], name: str, channel: int) -> Path:
    wanted = f"{name}_{channel:04d}"
    return next((p for p in files if volume_name(p) == wanted), files[0].parent / f"{wanted}.nii.gz")


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


def _channels(path: Path, images: list[tuple[Path, ...]], report: Report) -> tuple[str, ...]:
    """Channel names, from the file if there is one, else made from the number in the first case."""
    if path.is_file():
        names = read_json(path, object)
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise DatasetError(
                f'{path}: expected a list of channel names such as ["CT"], found {shortened(names)}'
            )
        return tuple(names)
    for files in images:
        try:
            number = sum(header_problems(file)[0].channels for file in files)
        except AtlasegError as error:
            report(error, files[0])
        else:
            return ("MRI",) if number == 1 else tuple(f"channel {i}" for i in range(number))
    return ("MRI",)
