"""``atlaseg check``: read a whole data set, summarise it, and list its problems."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.schema import Whole
from atlaseg.workflows.console.exit_codes import DONE, REFUSED

if TYPE_CHECKING:
    from rich.table import Table

    from atlaseg.pipeline.datasets.inspection import CaseReport, Inspection, Kind, Problem

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """Read every file of a data set, summarise it, and list every problem with its file.

    Known layouts: Medical Segmentation Decathlon (dataset.json), nnU-Net raw (imagesTr/NAME_0000.nii.gz) and
    plain folders (images/ and labels/ with equal file names). The exit code is 0 where the data set can be
    used, and 2 where a problem must be fixed first.

    Args:
        dataset: Folder of the data set.
        json: Print JSON for programs instead of the table.
        cases: List every case, not only ranges over all cases.
        allow_empty: Accept label maps without any labelled voxel (a patient without a lesion).
        allow_unlabelled: Accept images without a label map (scans to be segmented later).
        workers: Number of files read in parallel; 0 chooses one per core, at most 4.
    """

    positional: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset: Path
    json: bool = False
    cases: bool = False
    allow_empty: bool = False
    allow_unlabelled: bool = False
    workers: Whole = 0

    def run(self) -> int:
        """Check the data set and print the result; returns the exit code.

        Raises:
            MissingFileError: there is no such folder.
            DatasetError: the folder holds no data set in a known layout.
            OptionError: a negative number of workers.
        """
        if self.workers < 0:
            raise OptionError(f"--workers must be 0 (chosen for you) or more, found {self.workers}")
        found = self._inspect()
        if self.json:
            print(_as_json(found))
        else:
            _print(found, every_case=self.cases)
        return REFUSED if found.errors else DONE

    def _inspect(self) -> Inspection:
        from concurrent.futures import ThreadPoolExecutor

        from atlaseg.pipeline.datasets.inspection import inspect_dataset
        from atlaseg.pipeline.progress import ProgressDisplay

        allowed: dict[Kind, bool] = {
            "empty-label": self.allow_empty,
            "missing-label": self.allow_unlabelled,
        }
        # Threads are enough: decompressing and counting voxels release the interpreter's lock.
        # Each holds a whole case in memory, so the default stays modest on large machines.
        workers = self.workers or min(os.cpu_count() or 1, 4)
        with ThreadPoolExecutor(workers) as executor, ProgressDisplay("reading", unit="case") as progress:
            return inspect_dataset(
                self.dataset,
                tolerated=[kind for kind, meant in allowed.items() if meant],
                executor=executor,
                progress=progress,
            )


def _as_json(found: Inspection) -> str:
    """The whole inspection as one JSON object; keys of ``volumes_ml`` are structure names."""
    import json

    names = found.labels.structures
    content = {
        "dataset": found.name,
        "layout": found.layout,
        "usable": not found.errors,
        "channels": list(found.channels),
        "channels_named_by": found.channels_named_by,
        "modality": found.modality.modality,
        "modality_reason": found.modality.reason,
        "labels": dict(zip(found.labels.names, found.labels.values, strict=True)),
        "cases": [
            {
                "name": case.name,
                "labelled": case.labelled,
                "shape": list(case.shape),
                "spacing_mm": list(case.spacing),
                "orientation": case.orientation,
                "obliquity_degrees": case.obliquity,
                "channels": case.channels,
                "dtype": case.dtype,
                "volumes_ml": {names[value]: ml for value, ml in case.volumes.items()},
            }
            for case in found.cases
        ],
        "problems": [
            {
                "severity": problem.severity,
                "kind": problem.kind,
                "case": problem.case,
                "file": _relative(problem, found),
                "message": problem.message.replace(f"{found.folder}/", ""),
            }
            for problem in found.problems
        ],
    }
    return json.dumps(content, indent=2)


def _relative(problem: Problem, found: Inspection) -> str:
    if problem.file.is_relative_to(found.folder):
        return problem.file.relative_to(found.folder).as_posix()
    return problem.file.name


def _print(found: Inspection, *, every_case: bool) -> None:
    """One table, then every problem on a line of its own, and the verdict."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if not console.is_terminal:  # a pipe has no width that cells would have to be cut to
        console = Console(width=200)
    console.print(_table(found, every_case=every_case))
    for problem in found.problems:
        style = "bold red" if problem.severity == "error" else "yellow"
        line = Text.assemble((problem.severity, style), f" {_relative(problem, found)}: {problem.message}")
        console.print(line, soft_wrap=True)
    verdict = f"{_count(len(found.errors), 'error')}, {_count(len(found.warnings), 'warning')}"
    if not found.problems:
        verdict = "no problems found"
    elif not found.errors:
        verdict += ": the data set can be used"
    console.print(Text(verdict, style="bold red" if found.errors else "bold green"))


def _table(found: Inspection, *, every_case: bool) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{found.name} ({found.layout})"), show_header=False, box=SIMPLE_HEAD)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in _summary(found):
        table.add_row(name, Text(value))
    table.add_section()
    table.add_row("structures", _structures(found))
    if every_case:
        table.add_section()
        table.add_row("each case", _each_case(found.cases))
    return table


def _summary(found: Inspection) -> list[tuple[str, str]]:
    """Name and text of each property of the images."""
    readable = [case for case in found.cases if case.shape]
    labelled = sum(case.labelled for case in found.cases)
    rows = [
        ("cases", f"{len(found.cases)} ({labelled} labelled, {len(found.cases) - labelled} unlabelled)"),
        ("channels", f"{len(found.channels)}: {', '.join(found.channels)}"),
        ("treated as", f"{found.modality.modality}: {found.modality.reason}"),
    ]
    if not readable:
        return rows
    tilted = [case.obliquity for case in readable if case.obliquity > 0.1]
    return [
        *rows,
        ("shape", _per_axis([case.shape for case in readable], "{:.0f}") + " voxels"),
        ("spacing", _per_axis([case.spacing for case in readable], "{:.4g}") + " mm"),
        ("orientation", _tally(case.orientation for case in readable)),
        ("oblique", f"{len(tilted)} cases, up to {max(tilted):.1f} degrees" if tilted else "none"),
        ("number type", _tally(case.dtype for case in readable)),
    ]


def _per_axis(values: Sequence[Sequence[float]], form: str) -> str:
    """Range of each axis over the cases, such as ``31-43 x 40-59 x 24-47``, with medians where they vary."""
    from statistics import median

    axes = list(zip(*values, strict=False))
    ranges = [(form.format(min(axis)), form.format(max(axis))) for axis in axes]
    text = " x ".join(low if low == high else f"{low}-{high}" for low, high in ranges)
    if all(low == high for low, high in ranges):
        return text
    return f"{text} (median {' x '.join(form.format(median(axis)) for axis in axes)})"


def _tally(values: Iterable[str]) -> str:
    counts = Counter(values).most_common()
    return counts[0][0] if len(counts) == 1 else ", ".join(f"{value} ({number})" for value, number in counts)


def _structures(found: Inspection) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("value", justify="right")
    table.add_column("structure")
    for column in ("cases", "mean ml", "min ml", "max ml"):
        table.add_column(column, justify="right")
    for value, name in found.labels.structures.items():
        ml = [case.volumes[value] for case in found.cases if value in case.volumes]
        numbers: list[Any] = [sum(ml) / len(ml), min(ml), max(ml)] if ml else []
        cells = [_millilitres(number) for number in numbers] or ["-"] * 3
        table.add_row(str(value), Text(name), str(len(ml)), *cells)
    return table


def _millilitres(volume: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{volume:.0f}" if volume >= 100 else f"{volume:#.3g}" if volume >= 1e-4 else f"{volume:.6f}"


def _each_case(cases: Sequence[CaseReport]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    columns = ("case", "shape", "spacing mm", "axes", "channels", "labelled ml")
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for case in cases:
        table.add_row(
            Text(case.name),
            " x ".join(str(n) for n in case.shape) or "unreadable",
            " x ".join(f"{s:.4g}" for s in case.spacing),
            case.orientation,
            str(case.channels),
            _millilitres(sum(case.volumes.values())) if case.labelled else "no label map",
        )
    return table


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
