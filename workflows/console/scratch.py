"""Keep temporary files of a command in one folder, which the next command removes if this one is killed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["make_scratch"]

_PREFIX = "atlaseg-job-"
_NAME = re.compile(re.escape(_PREFIX) + r"\w{8}")


def make_scratch() -> Path | None:
    """A folder for the temporary files of this process and its children, after removing those of dead ones.

    Returns:
        The folder, to be removed by the caller; ``None`` where none can be made.
    """
    tempfile.tempdir = None  # asks the environment again
    home = Path(tempfile.gettempdir())
    for folder in home.glob(f"{_PREFIX}*"):
        if _NAME.fullmatch(folder.name) and _is_mine(folder) and _hold(folder, release=True):
            shutil.rmtree(folder, ignore_errors=True)
    try:
        made = tempfile.mkdtemp(prefix=_PREFIX)
    except OSError:  # a full disk: the job says so if it needs a temporary file
        return None
    _hold(Path(made))
    os.environ["TMPDIR"] = made
    tempfile.tempdir = None
    return Path(made)


def _is_mine(folder: Path) -> bool:
    with suppress(OSError):
        return folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    return False


def _hold(folder: Path, *, release: bool = False) -> bool:
    """Lock a folder until this process and its children have ended, or only see whether that can be done."""
    import fcntl

    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return False
    if release:
        os.close(number)
    return True
