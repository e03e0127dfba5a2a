"""Entry points by which installed packages extend atlaseg, found without importing any package.

An entry point is a line in a package's metadata, ``name = module:attribute`` below ``[atlaseg.losses]``:
https://packaging.python.org/en/latest/specifications/entry-points/.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from atlaseg.pipeline.errors import PackageError

__all__ = ["Added", "added", "import_target"]

_PREFIX = "atlaseg."


@dataclass(frozen=True)
class Added:
    """One entry point of an installed package.

    Args:
        name: what stands before ``=``.
        group: the heading, such as ``atlaseg.losses``.
        target: ``module:attribute``.
        package: name and version of the package, as ``pip`` knows it.
    """

    name: str
    group: str
    target: str
    package: str

    def load(self) -> Any:
        """What the entry point names.

        Raises:
            PackageError: it cannot be imported.
        """
        return import_target(self.target, self.package, f"its entry point {self.name} of {self.group}")


def added(group: str) -> list[Added]:
    """Entry points of all installed packages in one group, by name; imports none of them.

    >>> added("atlaseg.no_such_group")
    []
    """
    return [entry for entry in _found(tuple(_search_path())) if entry.group == group]


def import_target(target: str, package: str, what: str) -> Any:
    """The attribute that ``module:attribute`` names.

    Args:
        target: its place.
        package: that it belongs to, for messages; empty for atlaseg itself.
        what: that it is, for messages.

    Raises:
        PackageError: the module of another package cannot be imported, or has no such attribute.

    >>> import_target("math:sqrt", "", "a function")(4.0)
    2.0
    """
    module, _, attribute = target.partition(":")
    if not package:
        return getattr(import_module(module), attribute)
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # another's module may fail by anything, and that is no fault of atlaseg
        raise PackageError(
            f"package {package}: {what} ({target}) cannot be imported ({type(error).__name__}: {error}); "
            "update the package or uninstall it"
        ) from error


def _search_path() -> list[str]:
    """Python's search path without the current folder, which it puts first."""
    path = list(sys.path)
    with suppress(FileNotFoundError):  # the current folder may be gone
        if path and not sys.flags.safe_path and path[0] == os.getcwd():  # noqa: PTH109 (text, as Python writes it)
            del path[0]
    return [folder for folder in path if folder]


@cache
def _found(path: tuple[str, ...]) -> tuple[Added, ...]:
    """Entry points of the packages on a search path; of two packages of one name, the first counts."""
    folders: dict[str, Path] = {}
    for folder in (Path(place) for place in path):
        for metadata in _with_entry_points(folder):
            name = metadata.stem.partition("-")[0].lower().replace(".", "_")
            folders.setdefault(name, metadata)
    if not folders:
        return ()
    from importlib.metadata import Distribution  # a tenth of a second, and few have such packages

    found = [
        Added(entry.name, entry.group, entry.value, f"{package.metadata['Name']} {package.version}")
        for package in map(Distribution.at, folders.values())
        for entry in package.entry_points
        if entry.group.startswith(_PREFIX)
    ]
    return tuple(sorted(found, key=lambda entry: (entry.group, entry.name, entry.package)))


def _with_entry_points(folder: Path) -> Iterator[Path]:
    """Metadata folders of the packages in a folder that add something to atlaseg."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # not there, no folder, or not to be read: Python finds no module there either
        return
    for entry in entries:
        if entry.name.endswith((".dist-info", ".egg-info")):
            text = Path(entry.path) / "entry_points.txt"
            if text.is_file() and f"[{_PREFIX}" in text.read_text(encoding="utf-8", errors="replace"):
                yield Path(entry.path)
