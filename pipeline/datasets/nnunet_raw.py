"""nnU-Net's raw layout: ``imagesTr/NAME_0000.nii.gz``, ``labelsTr/NAME.nii.gz`` and a ``dataset.json``.

Source: nnU-Net v2, ``documentation/dataset_format.md``; Isensee et al., Nature Methods 18, 203 (2021).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.datasets.listing import (
    UNNAMED,
    CaseList,
    Layout,
    Listing,
    Report,
    check_number,
    description,
    inside,
    left_out,
    read_json,
    volumes_in,
)
from atlaseg.pipeline.errors import DatasetError, LabelError, MissingFileError
from atlaseg.pipeline.io.scan_names import SUFFIXES, split_channel, suffix_of, volume_name
from atlaseg.pipeline.schema import shortened

__all__ = ["LAYOUT", "list_nnunet_raw"]

TITLE = "nnU-Net raw"


def _recognises(folder: Path) -> bool:
    """Whether its ``dataset.json`` names channels or a file ending, as nnU-Net's."""
    return not {"channel_names", "file_ending"}.isdisjoint(description(folder))


def list_nnunet_raw(folder: Path, report: Report) -> Listing:
    """Labelled cases of ``imagesTr`` and unlabelled ones of ``imagesTs``, one file per channel.

    Raises:
        DatasetError: ``dataset.json`` lacks usable ``labels`` or ``channel_names``, asks for a file format
            other than NIfTI, or for region-based labels or an ignore label.
    """
    source = folder / "dataset.json"
    content = read_json(source)
    channels = _channels(content.get("channel_names"), source)
    ending = content.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or ending.lower() not in SUFFIXES:
        raise DatasetError(f"{source}: file_ending {ending!r} is not read; convert the data to .nii.gz")
    cases = CaseList(report)
    named = content.get("dataset")
    if isinstance(named, dict):
        _add_named(cases, folder, named, source, report)
        number = len(named)
    else:
        number = _add_found(cases, folder, ending, channels, report)
    check_number(content, number, source, report)
    for name, images in _by_case(folder / "imagesTs", ending, channels, report).items():
        cases.add(name, images, None)
    return Listing(
        folder=folder,
        layout=TITLE,
        name=str(content.get("name") or UNNAMED),
        cases=cases.sorted(),
        labels=_labels(content.get("labels"), source),
        channels=channels,
        left_out=left_out(
            (file for case in cases.sorted() for file in case.files), listed=isinstance(named, dict)
        ),
    )


def _add_found(cases: CaseList, folder: Path, ending: str, channels: tuple[str, ...], report: Report) -> int:
    """Cases found by listing ``imagesTr``; returns how many there are."""
    found = _by_case(folder / "imagesTr", ending, channels, report)
    labels = {volume_name(path): path for path in volumes_in(folder / "labelsTr", report)}
    for name, images in found.items():
        cases.add(name, images, labels.get(name, folder / "labelsTr" / f"{name}{ending}"))
    for name, path in labels.items():
        if name not in found:
            problem = f"label map without images imagesTr/{name}_0000{ending}"
            report(MissingFileError(f"{path}: {problem}; add them or move it away"), path)
    return len(found)


def _add_named(cases: CaseList, folder: Path, entries: dict[str, Any], source: Path, report: Report) -> None:
    """Cases that ``dataset.json`` names itself: ``{"NAME": {"images": [...], "label": PATH}}``."""
    for name, entry in entries.items():
        images, label = (entry.get("images"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        if not isinstance(images, list) or not images or not isinstance(label, str):
            report(
                DatasetError(f'{source}: dataset: {name} needs "images": [PATH, ...] and "label": PATH'),
                source,
            )
            continue
        try:
            files = [inside(folder, str(text), source) for text in images]
            cases.add(name, files, inside(folder, label, source))
        except DatasetError as error:
            report(error, source)


def _by_case(folder: Path, ending: str, channels: tuple[str, ...], report: Report) -> dict[str, list[Path]]:
    """``{case name: one file per channel}``, in the order of the channels, whether the files exist or not."""
    found: dict[str, dict[int, Path]] = {}
    for path in volumes_in(folder, report):
        parts = split_channel(path)
        if suffix_of(path).lower() != ending.lower() or parts is None or parts[1] >= len(channels):
            wanted = f"NAME_0000{ending}" + (
                f" to NAME_{len(channels) - 1:04d}{ending}" * (len(channels) > 1)
            )
            problem = f"file name does not fit dataset.json, expected {wanted}; rename it or move it away"
            report(DatasetError(f"{path}: {problem}"), path)
        else:
            found.setdefault(parts[0], {})[parts[1]] = path
    return {
        name: [files.get(c, folder / f"{name}_{c:04d}{ending}") for c in range(len(channels))]
        for name, files in found.items()
    }


def _labels(labels: Any, source: Path) -> LabelTable:
    """Table from ``{"background": 0, NAME: value, ...}``."""
    if not isinstance(labels, dict) or not labels:
        raise DatasetError(f'{source}: expected "labels": {{"background": 0, NAME: 1, ...}}')
    for name, value in labels.items():
        if isinstance(value, list):
            raise DatasetError(
                f"{source}: label {name!r} is a region {value}; region-based labels are not supported, "
                "give every structure a single value"
            )
        if name == "ignore":
            raise DatasetError(
                f"{source}: the ignore label ({value}) is not supported; label these voxels or leave the "
                "cases out"
            )
        if not isinstance(value, int) or isinstance(value, bool):
            raise DatasetError(f"{source}: label {name!r} must be a whole number, found {value!r}")
    try:
        return LabelTable.from_names(labels)
    except LabelError as error:
        raise DatasetError(f"{source}: labels: {error}") from error


def _channels(names: Any, source: Path) -> tuple[str, ...]:
    """Names in the order of the keys ``"0"``, ``"1"``, ..."""
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))) or not names:
        raise DatasetError(
            f'{source}: expected "channel_names": {{"0": "MRI", ...}}, found {shortened(names)}'
        )
    if unnamed := [key for key, name in names.items() if not isinstance(name, str)]:
        raise DatasetError(
            f"{source}: the name of channel {unnamed[0]} must be text, found {names[unnamed[0]]!r}"
        )
    return tuple(names[str(i)] for i in range(len(names)))


LAYOUT = Layout(_recognises, list_nnunet_raw)
