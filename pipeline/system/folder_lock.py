"""Lock an output folder, so that one job at a time writes to it, and clean up after killed jobs.

The lock is a file beside the place, ``.NAME.atlaseg-lock``, which the system frees when its holder ends, however it
ends. It says which process holds it, and goes away with the job.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.pipeline.errors import BusyFolderError
from atlaseg.pipeline.io.files import WRITING

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["locked"]

_SUFFIX = ".atlaseg-lock"
#: Seconds to wait for another job that only looks whether a lock is held.
_PATIENCE = 0.5
#: Folders below a place that are looked through; more are no job's, such as those of a home that is named as --out.
_MOST_FOLDERS = 20_000


@contextmanager
def locked(place: Path, command: str, process: int | None = None) -> Iterator[None]:
    """Lock a folder or file, after removing what a killed job left there.

    Locks lie beside a place, or, where nothing can be written beside a folder, in it. A job that can write neither, or
    whose file system has no locks, proceeds without one.

    Args:
        place: folder or file that the job writes; need not be there.
        command: of this job, for the message to others.
        process: its id, for the message; by default that of this process.

    Raises:
        BusyFolderError: another job holds it.
    """
    try:
        place = place.resolve()
    except (OSError, ValueError, RuntimeError):  # a name that cannot be one: the job will say so
        yield
        return
    made = _make_folder(place.parent)
    try:
        held = _hold_first(place)
        if held is None:
            yield
            return
        path, lock = held
        try:
            _describe(path, command, os.getpid() if process is None else process)
            _remove_leftovers(place, path)
            yield
        finally:
            _free(path, lock)
    finally:
        for folder in made:
            with suppress(OSError):  # something is in it by now
                folder.rmdir()


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder; returns those that were not there, the innermost first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    made: list[Path] = []
    with suppress(OSError):  # the job will say so
        for parent in reversed(missing):
            parent.mkdir()
            made.insert(0, parent)
    return made


def _hold_first(place: Path) -> tuple[Path, BaseFileLock] | None:
    beside = _lock_of(place)
    for path in (beside, place / _SUFFIX) if place.is_dir() else (beside,):
        if (lock := _acquired(path, _PATIENCE)) is not None:
            return path, lock
        if path.exists():
            raise BusyFolderError(f"{place}: {_holder(path)}; wait for its end, or choose another --out")
    return None


def _lock_of(place: Path) -> Path:
    name = place.name if len(os.fsencode(place.name)) < 200 else place.name[:40]
    return place.with_name(f".{name}{_SUFFIX}") if name else place / _SUFFIX


def _acquired(path: Path, patience: float) -> BaseFileLock | None:
    """A lock that is held from now on, ``None`` where another has it (then its file is there) or none can be had."""
    from filelock import FileLock, Timeout

    for _ in range(20):
        lock = FileLock(path, timeout=patience, poll_interval=0.05)
        try:
            lock.acquire()
        except (Timeout, OSError, NotImplementedError):
            return None
        if path.exists():
            return lock
        lock.release()  # its holder removed it just then
    return None


def _free(path: Path, lock: BaseFileLock) -> None:
    if os.name == "posix":
        path.unlink(missing_ok=True)  # while it is held, so that it is nobody else's
    lock.release()
    if os.name != "posix":
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _describe(path: Path, command: str, process: int) -> None:
    content = {"process": process, "command": command, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with suppress(OSError):  # a full disk: the job will say so
        path.write_text(json.dumps(content), encoding="utf-8")


def _holder(path: Path) -> str:
    """Who holds a lock, in words."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        process, command, since = int(content["process"]), str(content["command"]), str(content["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another job of atlaseg is writing there"
    return f"atlaseg {command} is writing there (process {process}, since {since})"


def _is_held(path: Path) -> bool:
    """Whether a job holds a lock; the file of one that has died is removed."""
    if not path.exists():
        return False
    lock = _acquired(path, 0)
    if lock is None:
        return path.exists()
    _free(path, lock)
    return False


def _remove_leftovers(place: Path, own: Path) -> None:
    """Remove what killed jobs were about to write; what others write at this moment, in folders of their own, stays."""
    if place.is_dir():
        _remove_below(place, own)
    parent = place.parent
    if any(_is_held(_lock_of(folder)) for folder in (parent, *parent.parents) if folder.name):
        return
    with suppress(OSError):
        half_written = [path for path in parent.iterdir() if path.name.startswith(WRITING)]
        folder_of = re.compile(re.escape(f"{WRITING}{place.name}-") + "[a-z0-9_]{8}")
        alone = not any(_is_held(path) for path in parent.glob(f".*{_SUFFIX}") if path != own)
        for path in half_written:
            of_file = alone and place.suffix and not place.is_dir() and path.is_file()
            if of_file or folder_of.fullmatch(path.name):
                _remove(path)


def _remove_below(place: Path, own: Path) -> None:
    for name, folders, files in islice(os.walk(place), _MOST_FOLDERS):
        folder = Path(name)
        held = {f for f in files if f.endswith(_SUFFIX) and folder / f != own and _is_held(folder / f)}
        for inner in list(folders):
            if _lock_of(folder / inner).name in held:
                folders.remove(inner)  # another job's
            elif inner.startswith(WRITING):
                folders.remove(inner)
                _remove(folder / inner)
        if not held:
            for file in files:
                if file.startswith(WRITING):
                    _remove(folder / file)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
