"""Files that are either whole or not there: written beside their place and renamed into it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import MissingFileError, UnreadableFileError

__all__ = ["read_json", "replacing", "write_text"]


@contextmanager
def replacing(path: Path, suffix: str | None = None) -> Iterator[Path]:
    """Temporary path beside ``path`` that takes its place when the block ends without an error.

    The temporary name ends with ``suffix`` (by default, ``path``'s own), for writers that look at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix if suffix is None else suffix
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=ending)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Content of a JSON file of our own.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is not JSON.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(f"{path}: not readable as JSON ({error}); is it truncated?") from error
