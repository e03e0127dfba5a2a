"""Files that the run of a method with atlases has in addition to those of the method alone.

::

    RUN/prior/                      the atlases, a bundle of their own (:mod:`atlaseg.atlases.multi_atlas_bundle`)
    RUN/configs/combination.json    beside a network: how the two are joined
    RUN/configs/weight.json         beside a classical method: the weight of the atlases

Either file also says how the weight was found. It is written last, so that a run without it is not finished.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atlaseg.atlases.combined.combination import Combination, checked_weight
from atlaseg.atlases.multi_atlas_bundle import is_atlas_bundle
from atlaseg.pipeline.classical.classical_bundle import is_classical_bundle
from atlaseg.pipeline.errors import MissingFileError
from atlaseg.pipeline.io.files import read_json, taking_apart, write_text

__all__ = [
    "ATLASES",
    "COMBINATION",
    "WEIGHT",
    "is_atlas_classical_bundle",
    "is_atlas_network_bundle",
    "read_combination",
    "read_weight",
    "write_combination",
    "write_weight",
]

ATLASES = "prior"
COMBINATION = Path("configs") / "combination.json"
WEIGHT = Path("configs") / "weight.json"


def is_atlas_network_bundle(folder: Path) -> bool:
    """Whether a folder is a finished run of a network with its atlases."""
    return (folder / COMBINATION).is_file() and is_atlas_bundle(folder / ATLASES)


def is_atlas_classical_bundle(folder: Path) -> bool:
    """Whether a folder is a finished run of a classical method with its atlases."""
    return (folder / WEIGHT).is_file() and is_classical_bundle(folder) and is_atlas_bundle(folder / ATLASES)


def read_combination(folder: Path) -> Combination:
    """Read how a run combines network and atlases.

    Raises:
        MissingFileError: the run is not finished, or no run of a network with atlases.
        UnreadableFileError: the file is damaged.
    """
    path = folder / COMBINATION
    if not path.is_file():
        raise MissingFileError(
            f"{folder}: not a finished run of a network with atlases (it has no {COMBINATION.as_posix()})"
        )
    with taking_apart(path, "the combination of network and atlases"):
        content = read_json(path, dict)
        return Combination(content["kind"], float(content["weight"]))


def write_combination(folder: Path, combination: Combination, about: dict[str, Any] | None = None) -> None:
    """Write it, whole or not at all.

    Args:
        folder: of the run.
        combination: to be written.
        about: how it was found, plain values.
    """
    write_text(folder / COMBINATION, json.dumps({**asdict(combination), **(about or {})}, indent=1) + "\n")


def read_weight(folder: Path) -> tuple[float, dict[str, Any]]:
    """Weight of the atlases beside a classical method, 0 to 1, and how it was found.

    Raises:
        MissingFileError: the run is not finished, or no run of a classical method with atlases.
        UnreadableFileError: the file is damaged.
    """
    path = folder / WEIGHT
    if not path.is_file():
        raise MissingFileError(
            f"{folder}: not a finished run of a classical method with atlases (it has no {WEIGHT.as_posix()})"
        )
    with taking_apart(path, "the weight of the atlases"):
        content = read_json(path, dict)
        return checked_weight(float(content.pop("weight"))), content


def write_weight(folder: Path, weight: float, about: dict[str, Any]) -> None:
    """Write it, whole or not at all; arguments as :func:`read_weight` gives them."""
    write_text(folder / WEIGHT, json.dumps({"weight": weight, **about}, indent=1) + "\n")
