"""Layout of the Medical Segmentation Decathlon: a ``dataset.json`` that lists files.

Source: Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 4128 (2022),
http://medicaldecathlon.com. Several channels lie in one 4-D file, channels last.
"""

from __future__ import annotations

from collections.abc import Iterator
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
)
from atlaseg.pipeline.errors import DatasetError, LabelError
from atlaseg.pipeline.io.scan_names import (
    digits_in_names,
    is_volume,
    split_channel,
    suffix_of,
    volume_name,
)
from atlaseg.pipeline.schema import shortened

__all__ = ["LAYOUT", "list_decathlon"]

TITLE = "Medical Segmentation Decathlon"


def _recognises(folder: Path) -> bool:
    """Whether its ``dataset.json`` lists training cases."""
    return "training" in description(folder)


def list_decathlon(folder: Path, report: Report) -> Listing:
    """Cases that ``dataset.json`` names: ``training`` and ``validation`` with labels, ``test`` without.

    Raises:
        DatasetError: ``dataset.json`` has no usable ``labels``, ``modality`` or lists of cases.
    """
    source = folder / "dataset.json"
    content = read_json(source)
    found: list[tuple[list[Path], Path | None]] = []
    number = 0
    for part, entry in _entries(content, source):
        number += part == "training"
        try:
            images, label = _files(folder, entry, part, source)
        except DatasetError as error:
            report(error, source)
            continue
        if images[0].name.startswith("._"):  # macOS writes these beside the real files
            number -= part == "training"
        else:
            found.append((images, label))
    digits = digits_in_names((volume_name(label), images) for images, label in found if label)
    cases = CaseList(report)
    for images, label in found:
        cases.add(_case_name(images, label, digits=digits), images, label)
    check_number(content, number, source, report)
    return Listing(
        folder=folder,
        layout=TITLE,
        name=str(content.get("name") or UNNAMED),
        cases=cases.sorted(),
        labels=_labels(content.get("labels"), source),
        channels=_channels(content.get("modality"), source),
        left_out=left_out(
            (file for images, label in found for file in (*images, label) if file is not None), listed=True
        ),
    )


def _entries(content: dict[str, Any], source: Path) -> Iterator[tuple[str, Any]]:
    for part in ("training", "validation", "test"):
        entries = content.get(part, [])
        if not isinstance(entries, list):
            raise DatasetError(f"{source}: {part} must be a list of cases, found {type(entries).__name__}")
        yield from ((part, entry) for entry in entries)


def _files(folder: Path, entry: Any, part: str, source: Path) -> tuple[list[Path], Path | None]:
    """Image files and label file of one entry."""
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (entry, None)
    named: list[Any] = image if isinstance(image, list) else [image]
    if not named or not all(isinstance(text, str) and text for text in named):
        raise DatasetError(f'{source}: a case in {part} must be {{"image": PATH, ...}}, found {entry!r}')
    if label is not None and not isinstance(label, str):
        raise DatasetError(f"{source}: label of {named[0]} must be a path, found {label!r}")
    if label is None and part == "training":
        raise DatasetError(f'{source}: {named[0]} is listed in training without a "label"; add it')
    paths = [inside(folder, text, source) for text in named]
    if len(paths) == 1 and not paths[0].is_file():
        paths = _channel_files(paths[0]) or paths
    return paths, inside(folder, label, source) if label else None


def _channel_files(image: Path) -> list[Path]:
    """``NAME_0000.nii.gz``, ... for ``NAME.nii.gz``: nnU-Net's first version lists cases without channels."""
    if not image.parent.is_dir():
        return []
    wanted, suffix = volume_name(image), suffix_of(image).lower()
    files = [p for p in image.parent.iterdir() if is_volume(p) and suffix_of(p).lower() == suffix]
    return sorted(p for p in files if (parts := split_channel(p)) and parts[0] == wanted)


def _case_name(images: list[Path], label: Path | None, *, digits: bool | None) -> str:
    channel = split_channel(images[0])
    if len(images) == 1 and channel is None:
        return volume_name(images[0])
    if label is not None:
        return volume_name(label)
    return channel[0] if channel and (len(images) > 1 or digits is False) else volume_name(images[0])


def _labels(labels: Any, source: Path) -> LabelTable:
    """Table from ``{"0": "background", "1": NAME, ...}``."""
    if not isinstance(labels, dict) or not labels:
        raise DatasetError(f'{source}: expected "labels": {{"0": "background", "1": NAME, ...}}')
    try:
        named = {str(name): int(value) for value, name in labels.items()}
        if len(named) < len(labels):
            raise LabelError(f"structure names {list(labels.values())} must be distinct")
        return LabelTable.from_names(named)
    except (ValueError, LabelError) as error:
        raise DatasetError(f"{source}: labels: {error}") from error


def _channels(modality: Any, source: Path) -> tuple[str, ...]:
    """Names in the order of the keys ``"0"``, ``"1"``, ..."""
    if not isinstance(modality, dict) or sorted(modality) != sorted(str(i) for i in range(len(modality))):
        raise DatasetError(f'{source}: expected "modality": {{"0": "MRI", ...}}, found {shortened(modality)}')
    if not modality:
        raise DatasetError(f'{source}: "modality" names no channel; write {{"0": "MRI"}} or {{"0": "CT"}}')
    if unnamed := [key for key, name in modality.items() if not isinstance(name, str)]:
        raise DatasetError(
            f"{source}: the modality of channel {unnamed[0]} must be text, found {modality[unnamed[0]]!r}"
        )
    return tuple(modality[str(i)] for i in range(len(modality)))


LAYOUT = Layout(_recognises, list_decathlon)
