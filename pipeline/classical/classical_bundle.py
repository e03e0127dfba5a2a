"""The bundle folder of a classical segmenter: settings as JSON, what was learnt as plain arrays.

::

    RUN/configs/metadata.json     MONAI's description of the bundle
    RUN/models/classical.npz      arrays, read without pickle
    RUN/configs/classical.json    method, options, labels; written last, so that half a folder is not taken for one
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.classical.registry import make_method
from atlaseg.pipeline.errors import (
    AtlasegError,
    LabelError,
    MissingFileError,
    OptionError,
    PlanError,
)
from atlaseg.pipeline.io.files import read_arrays, read_json, replacing, write_text

__all__ = ["ARRAYS", "SETTINGS", "ClassicalSettings", "is_classical_bundle", "read_bundle", "write_bundle"]

SETTINGS = Path("configs") / "classical.json"
ARRAYS = Path("models") / "classical.npz"
FORMAT = "atlaseg classical segmenter"
VERSION = 2
ENTRIES = (
    "format",
    "version",
    "method",
    "options",
    "labels",
    "channels",
    "masked",
    "own_prior",
    "cases",
    "seed",
)


@dataclass(frozen=True)
class ClassicalSettings:
    """Everything about a fitted classical segmenter but its arrays.

    Args:
        method: name, a key of :data:`atlaseg.pipeline.classical.registry.CLASSICAL_METHODS`.
        options: of the method, every one spelled out.
        labels: label values and names.
        channels: name of each channel.
        masked: whether training scans had masks, so that scans need theirs.
        own_prior: whether the location prior is in the arrays; otherwise it comes from outside.
        cases: how many labelled scans it learnt from.
        seed: that they were learnt with.
    """

    method: str
    options: dict[str, Any]
    labels: LabelTable
    channels: tuple[str, ...]
    masked: bool
    own_prior: bool
    cases: int
    seed: int = 0


def is_classical_bundle(folder: Path) -> bool:
    """Whether a folder is one that :func:`write_bundle` has finished."""
    return (folder / SETTINGS).is_file()


def write_bundle(folder: Path, settings: ClassicalSettings, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a self-contained bundle folder.

    Raises:
        OSError: the folder cannot be written.
    """
    (folder / SETTINGS).unlink(missing_ok=True)
    with replacing(folder / ARRAYS) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **dict[str, Any](arrays))
    write_text(folder / "configs" / "metadata.json", json.dumps(_metadata(settings), indent=2) + "\n")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "method": settings.method,
        "options": settings.options,
        "labels": dict(zip(settings.labels.names, settings.labels.values, strict=True)),
        "channels": list(settings.channels),
        "masked": settings.masked,
        "own_prior": settings.own_prior,
        "cases": settings.cases,
        "seed": settings.seed,
    }
    write_text(folder / SETTINGS, json.dumps(content, indent=1) + "\n")


def read_bundle(folder: Path) -> tuple[ClassicalSettings, dict[str, npt.NDArray[Any]]]:
    """Settings and arrays of a bundle folder; nothing in the folder is run.

    Raises:
        MissingFileError: the folder is not such a bundle, or lacks a file.
        PlanError: the settings do not follow their schema, or are of another version.
        UnreadableFileError: a file is damaged.
        UnsafeModelError: the arrays hold Python objects.
    """
    settings = _settings(folder)
    return settings, _arrays(folder / ARRAYS)


def _settings(folder: Path) -> ClassicalSettings:
    path = folder / SETTINGS
    if not path.is_file():
        raise MissingFileError(f"{folder}: not a run of a classical method (it has no {SETTINGS.as_posix()})")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PlanError(f"{path}: not the settings of a classical segmenter; expected format {FORMAT!r}")
    if content.get("version") != VERSION:
        raise PlanError(
            f"{path}: version {content.get('version')!r}, this atlaseg reads {VERSION}; update it"
        )
    if different := sorted(set(content) ^ set(ENTRIES)):
        raise PlanError(f"{path}: {different[0]}: no such entry, or missing; expected {', '.join(ENTRIES)}")
    try:
        make_method(str(content["method"]), content["options"])
        return ClassicalSettings(
            method=content["method"],
            options=dict(content["options"]),
            labels=LabelTable.from_names(content["labels"]),
            channels=tuple(map(str, content["channels"])),
            masked=bool(content["masked"]),
            own_prior=bool(content["own_prior"]),
            cases=int(content["cases"]),
            seed=int(content["seed"]),
        )
    except (OptionError, LabelError) as error:
        raise PlanError(f"{path}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, AtlasegError):
            raise
        raise PlanError(f"{path}: damaged ({error}); train again") from error


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; the run is not whole, train again")
    return read_arrays(path)


def _metadata(settings: ClassicalSettings) -> dict[str, Any]:
    from atlaseg.pipeline.bundle import metadata_without_network

    return metadata_without_network(
        f"{settings.method}, named after {settings.cases} labelled scans, by atlaseg {version('atlaseg')}",
        settings.channels,
        settings.labels.names,
        ("atlaseg", "nibabel", "SimpleITK", "scipy", "scikit-image", "scikit-learn"),
    )
