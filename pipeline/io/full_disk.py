"""Detect a full disk behind the errors of different libraries."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atlaseg.pipeline.errors import AtlasegError, FullDiskError

__all__ = ["full_disk_as_error", "is_full", "nearly_full"]

_NUMBERS = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
#: How sqlite and the system say it, in errors that have no class of their own.
_SAID = ("disk is full", "No space left", "quota exceeded")
#: Bytes; where a writer gave up at fewer, it is for want of them.
_TOO_FEW = 1 << 20


@contextmanager
def full_disk_as_error(place: Path) -> Iterator[None]:
    """Context manager that turns errors due to a full disk into one error that names the folder.

    Raises:
        FullDiskError: the disk of the place is full.
    """
    try:
        yield
    except AtlasegError:
        raise
    except Exception as error:
        if not is_full(error, place):
            raise
        raise FullDiskError(
            f"{place}: no space left on the disk; free some, then give the same command again"
        ) from error


def is_full(error: BaseException, place: Path) -> bool:
    """Whether an exception, or its cause, is due to a full disk."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NUMBERS:
            return True
        if any(text in str(cause) for text in _SAID):
            return True
        cause = cause.__cause__ or cause.__context__
    return nearly_full(place)


def nearly_full(place: Path) -> bool:
    """Whether hardly any space is left on the disk of a place."""
    folder = next((folder for folder in (place, *place.parents) if folder.is_dir()), None)
    return folder is not None and shutil.disk_usage(folder).free < _TOO_FEW
