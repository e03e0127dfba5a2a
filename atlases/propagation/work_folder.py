"""Store finished registrations on disk, so that an interrupted job resumes.

Each is a transform (``.h5``) and a JSON file that seals it. The names end with a key: a hash of everything that the
transform follows from, so that another scan, atlas, option or library never finds it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.engines.registry import versions_behind
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.registration.transforms.transform_files import read_transform, write_transform
from atlaseg.pipeline.errors import AtlasegError, UnreadableFileError
from atlaseg.pipeline.io.files import read_json, write_text

__all__ = ["Finished", "WorkFolder", "digest_of_arrays", "digest_of_file", "key_of", "library_versions"]

logger = logging.getLogger(__name__)

#: Raised when what is computed from the same inputs changes, so that older files are not taken for it.
FORMAT = 2


@dataclass(frozen=True, eq=False)
class Finished:
    """A registration that is done.

    Args:
        transform: fixed -> moving points.
        seconds: wall-clock time that it took when it was run.
        about: how it was run and what came of it; plain numbers, strings and lists.
        key: of everything that it follows from (:func:`key_of`).
    """

    transform: Transform
    seconds: float
    about: dict[str, Any]
    key: str


def digest_of_arrays(*arrays: npt.NDArray[Any] | None) -> str:
    """SHA-256 over the types, shapes and values of arrays, in hexadecimal."""
    found = hashlib.sha256()
    for array in arrays:
        if array is None:
            found.update(b"none")
            continue
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(parts: Mapping[str, Any]) -> str:
    """SHA-256 of plain values in hexadecimal; the order of keys does not matter.

    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def library_versions(engines: Iterable[str]) -> dict[str, str]:
    """Versions of the libraries behind some engines, and of SimpleITK, which everything passes through."""
    found = {"SimpleITK": version("SimpleITK")}
    for engine in engines:
        found.update(versions_behind(engine))
    return found


class WorkFolder:
    """Keeps finished registrations.

    Args:
        folder: made when the first one is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, key: str) -> Finished | None:
        """A registration that was kept, or ``None``; a damaged one is reported in the log and counts as not there.

        The time of the seal says when it was last read, where the folder may be written.

        Args:
            name: of the atlas and the step, such as ``mouse_3-linear``.
            key: of :func:`key_of`.
        """
        transform_file, seal = self._files(name, key)
        if not seal.is_file():
            return None
        try:
            content = read_json(seal)
            _check(seal, content, key)
            if digest_of_file(transform_file) != content["sha256"]:
                raise UnreadableFileError(f"{transform_file}: not what was written")
            found = Finished(
                read_transform(transform_file, own=True), float(content["seconds"]), content["about"], key
            )
        except (AtlasegError, OSError) as error:
            logger.warning("%s; registering again", error)
            return None
        with suppress(OSError):  # the folder may be somebody else's
            os.utime(seal)  # says when it was last of use
        return found

    def write(self, name: str, finished: Finished) -> Finished:
        """Keep a registration; returns it as it will be read, which is the same to the last bit.

        Raises:
            OSError: the folder cannot be written.
        """
        transform_file, seal = self._files(name, finished.key)
        write_transform(transform_file, finished.transform)
        content = {
            "key": finished.key,
            "sha256": digest_of_file(transform_file),
            "seconds": finished.seconds,
            "about": finished.about,
        }
        # last, because it says that all of it is there
        write_text(seal, json.dumps(content, indent=1) + "\n")
        return replace(finished, transform=read_transform(transform_file, own=True))

    def _files(self, name: str, key: str) -> tuple[Path, Path]:
        # with_suffix would take a dot in the atlas' name for one
        stem = f"{name}-{key[:16]}"
        return self.folder / f"{stem}.h5", self.folder / f"{stem}.json"


def _check(seal: Path, content: Any, key: str) -> None:
    expected = {"key": str, "sha256": str, "seconds": float | int, "about": dict}
    whole = isinstance(content, dict) and all(isinstance(content.get(k), t) for k, t in expected.items())
    if not whole or content["key"] != key:
        raise UnreadableFileError(f"{seal}: does not describe the registration that its name identifies")
