"""The command line: ``atlaseg COMMAND ...``. Commands stand in a table (:mod:`atlaseg.workflows.console.commands`).

``atlaseg --help`` imports nothing but the standard library, so that it answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.console.assumptions import printed_assumptions
from atlaseg.workflows.console.commands import COMMANDS, STUDIES, overview, overview_of_studies
from atlaseg.workflows.console.exit_codes import DONE, REFUSED, exit_code_of
from atlaseg.workflows.console.parsing import parse
from atlaseg.workflows.console.screen import only_printable, printable
from atlaseg.workflows.console.supervisor import handled_signals, supervise

if TYPE_CHECKING:
    from atlaseg.pipeline.registry import Row

__all__ = ["job_of", "main"]

_HELP = ("-h", "--help", "help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (:mod:`atlaseg.workflows.console.exit_codes`)."""
    from atlaseg.pipeline.errors import AtlasegError

    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in _HELP:
        print(overview())
        return DONE
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"atlaseg {version('atlaseg')}")
        return DONE
    if words[0] == "study" and (len(words) == 1 or words[1] in _HELP):
        print(overview_of_studies())
        return DONE
    with only_printable():
        try:
            name, row, rest = _command(words)
        except AtlasegError as error:
            print(f"atlaseg: {printable(str(error))}", file=sys.stderr)
            return REFUSED
        return _run(name, row, rest, apart=arguments is None)


def job_of(words: Sequence[str]) -> Any:
    """The job of a command, filled from the words of a command line.

    Args:
        words: as they follow ``atlaseg``: a command, or ``study`` and one, then its options.

    Raises:
        OptionError: there is no such command or option, or a value is not possible; one sentence.
        PackageError: the package that adds the command is broken.
    """
    name, row, rest = _command(words)
    return parse(row.load(), name, rest)


def _command(words: Sequence[str]) -> tuple[str, Row, list[str]]:
    """Name and row of a command, and the words after it."""
    first, *rest = words
    earlier = first not in COMMANDS and first in STUDIES and first not in STUDIES.names()
    if first == "study" or earlier:
        row = STUDIES.find(rest.pop(0) if first == "study" else first)
        if earlier:
            print(f"atlaseg: {first} is now called: atlaseg study {row.name}", file=sys.stderr)
        return f"study {row.name}", row, rest
    row = COMMANDS.find(first)
    return row.name, row, rest


def _run(name: str, row: Row, words: list[str], *, apart: bool) -> int:
    """Run a command, in a process of its own (``apart``) or in this one."""
    from atlaseg.pipeline.system.worker_processes import safe_path_environment

    jobs: list[Any] = []

    def understand() -> int:
        jobs.append(parse(row.load(), name, words))
        return DONE

    if code := exit_code_of(name, understand):
        return code
    work = partial(_work, name, jobs[0], os.getpid())
    if not apart:
        return work()
    # for whatever starts Python again, be it a library
    os.environ.update(safe_path_environment())
    return supervise(name, work, partial(_tidy, name, jobs[0]))


def _work(name: str, job: Any, process: int) -> int:
    """Do the job, alone in the place that it writes; returns the exit code."""

    def do() -> int:
        with handled_signals(), printed_assumptions(name), _alone(name, job, process), _full_disk_named(job):
            return int(job.run())

    return exit_code_of(name, do)


def _alone(name: str, job: Any, process: int) -> AbstractContextManager[None]:
    """Hold the folder or file that a job writes, if it does, against other jobs."""
    from atlaseg.pipeline.system.folder_lock import locked

    place = getattr(job, "place", None) or getattr(job, "out", None)
    return locked(place, name, process) if isinstance(place, Path) else nullcontext()


@contextmanager
def _full_disk_named(job: Any) -> Iterator[None]:
    """Report a full disk with the name of the output, which the system's error lacks."""
    import errno

    from atlaseg.pipeline.errors import FullDiskError

    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC or isinstance(error, FullDiskError):
            raise
        place = error.filename or getattr(job, "out", None) or "a result"
        raise FullDiskError(
            f"{place}: no space left on the disk; free some, then give the same command again"
        ) from error


def _tidy(name: str, job: Any) -> None:
    """Remove what a job that was killed left half-written."""
    from atlaseg.pipeline.errors import AtlasegError

    with suppress(AtlasegError), _alone(name, job, os.getpid()):
        pass


if __name__ == "__main__":
    sys.exit(main())
