"""The command line: ``atlaseg COMMAND ...``; each command is one job dataclass, which tyro turns into options.

``atlaseg --help`` imports nothing but the standard library, so that it answers at once.
"""

from __future__ import annotations

import io
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from atlaseg.workflows.console.screen import only_printable, printable
from atlaseg.workflows.console.supervisor import (
    INTERRUPTED,
    TERMINATED,
    TerminatedError,
    heard_signals,
    supervise,
)

__all__ = ["COMMANDS", "main"]


@dataclass(frozen=True)
class Command:
    """Where a command's job is, and what the overview says of it."""

    module: str
    job: str
    summary: str


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "atlaseg.workflows.demo", "Demo", "the whole path on made scans: check, plan, train, segment, score"
    ),
    "check": Command(
        "atlaseg.workflows.check", "Check", "read a whole data set and say what is wrong with it"
    ),
    "plan": Command(
        "atlaseg.workflows.plan", "MakePlan", "choose patch, network and training for a data set"
    ),
    "train": Command(
        "atlaseg.workflows.train",
        "Train",
        "train a network, teach a classical method or put atlases together",
    ),
    "segment": Command(
        "atlaseg.workflows.segment", "Segment", "label scans with networks, atlases or classical methods"
    ),
    "evaluate": Command("atlaseg.workflows.evaluate", "Evaluate", "score label maps against references"),
    "benchmark": Command(
        "atlaseg.workflows.benchmark",
        "Benchmark",
        "compare methods on the same folds: scores, tests, ranking, times",
    ),
    "report": Command(
        "atlaseg.workflows.report", "Report", "show a benchmark as one HTML page that works offline"
    ),
    "register": Command(
        "atlaseg.workflows.register", "Register", "find the transform between two scans, with a picture"
    ),
    "warp": Command(
        "atlaseg.workflows.warp", "Warp", "carry images, label maps or points through transforms"
    ),
    "fuse": Command("atlaseg.workflows.fuse", "Fuse", "make one label map out of several of the same scan"),
    "build-atlas": Command(
        "atlaseg.workflows.build_atlas",
        "BuildAtlas",
        "average labelled scans into a template with probability maps",
    ),
    "phantom": Command(
        "atlaseg.workflows.phantom", "Phantom", "make labelled scans or shapes to try things on"
    ),
    "experiment-depth": Command(
        "atlaseg.workflows.studies.network_depth",
        "DepthExperiment",
        "compare network depths on simple shapes",
    ),
    "benchmark-augmentation": Command(
        "atlaseg.workflows.studies.augmentation_speed",
        "AugmentationBenchmark",
        "time elastic augmentation beside MONAI's",
    ),
    "benchmark-inference": Command(
        "atlaseg.workflows.studies.inference_speed",
        "InferenceBenchmark",
        "time and memory of labelling beside MONAI's",
    ),
    "benchmark-atlases": Command(
        "atlaseg.workflows.studies.atlas_methods",
        "AtlasBenchmark",
        "Dice and time of registrations and fusion rules",
    ),
    "benchmark-classical": Command(
        "atlaseg.workflows.studies.classical_methods",
        "ClassicalBenchmark",
        "Dice, time and memory of the classical methods",
    ),
    "benchmark-fusion": Command(
        "atlaseg.workflows.studies.fusion_rules",
        "FusionBenchmark",
        "time and Dice of label fusion beside ANTs and SimpleITK",
    ),
    "benchmark-memory": Command(
        "atlaseg.workflows.studies.memory_estimate",
        "MemoryBenchmark",
        "estimated and measured memory of training",
    ),
}


def overview() -> str:
    """What ``atlaseg --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: atlaseg COMMAND [options]",
            "",
            "Segment 3-D medical scans: networks and atlases made from your own labels, scored honestly.",
            "",
            "commands:",
            *lines,
            "",
            "atlaseg COMMAND --help explains one of them; atlaseg --version says which this is.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 done but for some cases, 2 an error of the user's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"atlaseg {version('atlaseg')}")
        return 0
    if words[0] not in COMMANDS:
        print(f"atlaseg: no command {words[0]!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    with only_printable():
        return _run(words[0], words[1:], apart=arguments is None)


def _run(name: str, words: list[str], *, apart: bool) -> int:
    """Run a command, in a process of its own (``apart``) or in this one."""
    from atlaseg.pipeline.errors import AtlasegError, OptionError
    from atlaseg.pipeline.system.worker_processes import safe_path_environment

    try:
        if any("\0" in word for word in words):
            raise OptionError("no name of a file and no option may hold a NUL character")
        job = _parse(name, words)
    except (AtlasegError, OSError) as error:
        print(f"atlaseg {name}: {printable(str(error))}", file=sys.stderr)
        return 2
    work = partial(_work, name, job, os.getpid())
    if not apart:
        return work()
    # for whatever starts Python again, be it a library
    os.environ.update(safe_path_environment())
    return supervise(name, work, partial(_tidy, name, job))


def _work(name: str, job: Any, process: int) -> int:
    """Do the job, alone in the place that it writes; returns the exit code."""
    from atlaseg.pipeline.errors import AtlasegError

    try:
        with heard_signals(), _assumptions_said(name), _alone(name, job, process), _told_of_space(job):
            return int(job.run())
    except (AtlasegError, OSError) as error:
        # the system's own: no permission, no space, a file where a folder should be
        print(f"atlaseg {name}: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"atlaseg {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except TerminatedError:
        print(f"atlaseg {name}: terminated", file=sys.stderr)
        return TERMINATED


def _alone(name: str, job: Any, process: int) -> AbstractContextManager[None]:
    """Hold the folder or file that a job writes, if it does, against other jobs."""
    from atlaseg.pipeline.system.folder_lock import alone_in

    place = getattr(job, "place", None) or getattr(job, "out", None)
    return alone_in(place, name, process) if isinstance(place, Path) else nullcontext()


@contextmanager
def _told_of_space(job: Any) -> Iterator[None]:
    """Say in words that the system has no space left for a file, which it says without a name."""
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


#: Files whose headers leave something to be assumed are named one by one, up to this many.
_MOST_ASSUMPTIONS = 10


@contextmanager
def _assumptions_said(name: str) -> Iterator[None]:
    """Print what a user should know (:class:`~atlaseg.pipeline.errors.AtlasegWarning`), one line each, each once."""
    import warnings

    from atlaseg.pipeline.errors import AtlasegWarning

    said: set[str] = set()
    show = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, AtlasegWarning):
            show(message, category, *place, **more)
        elif str(message) not in said:
            said.add(str(message))
            if len(said) <= _MOST_ASSUMPTIONS:
                print(f"atlaseg {name}: warning: {printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", AtlasegWarning)
        warnings.showwarning = tell
        try:
            yield
        finally:
            if len(said) > _MOST_ASSUMPTIONS:
                more = len(said) - _MOST_ASSUMPTIONS
                print(f"atlaseg {name}: warning: and {more} more files of that kind", file=sys.stderr)


def _parse(name: str, words: list[str]) -> Any:
    """The command's job, filled from the words of the command line."""
    from typing import Annotated, get_type_hints

    import tyro

    from atlaseg.pipeline.errors import OptionError
    from atlaseg.pipeline.schema import check_ranges
    from atlaseg.workflows.methods.option_groups import groups_of

    command = COMMANDS[name]
    job = getattr(import_module(command.module), command.job)
    # jobs stay free of tyro, so that Python users and tests need not know it
    for owner in (job, *groups_of(job).values()):
        hints = get_type_hints(owner, include_extras=True)
        for field in getattr(owner, "positional", ()):
            owner.__annotations__[field] = Annotated[hints[field], tyro.conf.Positional]
        for field in getattr(owner, "repeated", ()):
            owner.__annotations__[field] = Annotated[hints[field], tyro.conf.UseAppendAction]
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            filled = tyro.cli(
                job,
                prog=f"atlaseg {name}",
                args=words,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as end:
        if end.code:
            raise OptionError(f"{_without_box(said.getvalue())}; see atlaseg {name} --help") from end
        raise
    check_ranges(filled)
    out = getattr(filled, "out", None)
    if isinstance(out, Path):
        # what cannot be written is refused before the work, not after it
        above = next((parent for parent in out.parents if parent.exists() or parent.is_symlink()), out)
        if not above.is_dir() and above != out:
            raise OptionError(f"--out {out}: {above} is no folder; choose another place")
    return filled


def _without_box(text: str) -> str:
    """The one sentence that matters of what tyro draws: title, frame, help texts and inner errors are left out."""
    boxed = "╭" in text  # otherwise the title stands above a rule, as where the screen takes ASCII only
    inside = [line.strip("│").rstrip() for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    rules = [place for place, line in enumerate(inside) if line.strip() and not line.strip(" ─-")]
    begin = 0 if boxed or not rules else rules.pop(0) + 1
    lines = textwrap.dedent("\n".join(inside[begin : rules[0] if rules else None])).splitlines()
    if lines and lines[0].startswith("Missing from"):
        names = [line.strip() for line in lines if re.match(" {4}[^ ]", line)]
        whats = re.split("\n {4}[^ ].*", "\n".join(lines))[1:]
        short = [re.split("[.,;:(]", " ".join(what.split()))[0].strip() for what in whats]
        return "missing: " + ", ".join(f"{n} ({w})" for n, w in zip(names, short, strict=True))
    sentence = " ".join(" ".join(lines).split()).split(" Got errors:")[0]
    for said, plain in _PLAINER.items():
        sentence = re.sub(said, plain, sentence)
    return sentence.rstrip(".")


#: What tyro says in Python's words, in plain ones.
_PLAINER = {
    "no type matching (.*) could be instantiated from": r"expected \1, found",
    r"invalid literal for int\(\) with base 10:": "expected a whole number, found",
    "could not convert string to float:": "expected a number, found",
}


if __name__ == "__main__":
    sys.exit(main())
