"""Packages that a run needs besides atlaseg, because they provide its network, loss or optimizer."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.pipeline.errors import PackageError, UnreadableFileError
from atlaseg.pipeline.io.files import read_json
from atlaseg.pipeline.networks.registry import NETWORKS
from atlaseg.pipeline.registry import Row
from atlaseg.pipeline.training.losses.registry import LOSSES
from atlaseg.pipeline.training.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from atlaseg.pipeline.planning.plan import Plan

__all__ = ["package_entries", "refuse_missing_packages"]

#: Names of packages, https://packaging.python.org/en/latest/specifications/name-normalization/, and versions.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+-]{0,49}")


def package_entries(plan: Plan) -> dict[str, dict[str, str]]:
    """Entries of MONAI's ``metadata.json``: packages with their versions, needed to segment, and only to train.

    Raises:
        OptionError: the plan names what is not installed.
    """
    network = NETWORKS.find(plan.network.name)
    training: list[Row] = [LOSSES.find(plan.training.loss), OPTIMIZERS.find(plan.training.optimizer)]
    needed = {name: version(name) for name in ("nibabel", "pytorch-ignite")} | _packages([network])
    entries = {"required_packages_version": needed}
    if optional := _packages(training):
        entries["optional_packages_version"] = optional
    return entries


def _packages(rows: list[Row]) -> dict[str, str]:
    parts = [row.package.rpartition(" ") for row in rows if row.package]
    return {name: number for name, _, number in parts}


def refuse_missing_packages(folder: Path, plan: Plan) -> None:
    """Refuse a run whose network no installed package has, and say which package the run names.

    Nothing that a run names is imported: its network is looked up among those that are installed.

    Raises:
        PackageError: the network is not installed.
    """
    name = plan.network.name
    if name in NETWORKS:
        return
    content: dict[str, Any] = {}
    with suppress(UnreadableFileError, OSError, json.JSONDecodeError):
        content = read_json(folder / "configs" / "metadata.json", dict)
    said = content.get("required_packages_version")
    wanted = [
        f"{package}=={number}"
        for package, number in (said.items() if isinstance(said, dict) else ())
        if _NAME.fullmatch(str(package)) and _VERSION.fullmatch(str(number)) and not _installed(package)
    ]
    way = (
        f"the run names the package {wanted[0]}, which is not installed: install it, if you trust it"
        if wanted
        else "install the package that provides it, or train again with an available one"
    )
    raise PackageError(f"{folder}: expected one of the networks {', '.join(NETWORKS)}, found {name!r}; {way}")


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
