"""Cells of a benchmark: one method on one fold with one number of labels; each is run, scored and stored once."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.pipeline.errors import AtlasegError, DatasetError, FullDiskError
from atlaseg.pipeline.system.worker_processes import python_command, safe_path_environment
from atlaseg.workflows.benchmarking.folds import link_or_copy
from atlaseg.workflows.benchmarking.meter import read_cost
from atlaseg.workflows.benchmarking.worker import FULL_DISK, Stage, Task, record_of_case, record_of_fit

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Case, LabelTable
    from atlaseg.pipeline.evaluation.surface import Surface
    from atlaseg.workflows.benchmarking.entries import Entry

__all__ = [
    "Cell",
    "Conditions",
    "Stopped",
    "forget_failures",
    "run_cell",
    "sealed",
    "with_twins",
]

FORMAT = 1


class Stopped(Exception):  # noqa: N818 (not an error: somebody wished it)
    """The benchmark was stopped while a cell was running."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of all cells of a benchmark.

    Args:
        out: folder of the benchmark.
        names: label values and their names.
        seed: of everything random.
        device: of networks.
        probabilities: whether they are written.
        share_registrations: whether methods share finished registrations.
        workers: processes and threads that a method may use.
        tolerance_mm: of the surface Dice.
        surface: what surfaces are made of.
    """

    out: Path
    names: LabelTable
    seed: int = 0
    device: str = "auto"
    probabilities: bool = False
    share_registrations: bool = True
    workers: int = 1
    tolerance_mm: float = 1.0
    surface: Surface = "voxels"


@dataclass(frozen=True)
class Cell:
    """One method on one fold with one number of labels.

    Args:
        folder: of its own.
        entry: the method.
        labels: number of training cases, ``None`` for all of the fold.
        fold: from 0.
        training: names of the training cases.
        test: cases to label; their labels are read for scoring and for nothing else.
        view: data set with the training cases only.
        scans: files of the test scans, away from any label.
        masks: folder of masks of the test scans.
        twin: folder of an earlier cell whose training is the very same.
    """

    folder: Path
    entry: Entry
    labels: int | None
    fold: int
    training: tuple[str, ...]
    test: tuple[Case, ...]
    view: Path
    scans: dict[str, tuple[Path, ...]]
    masks: Path | None = None
    twin: Path | None = None

    @property
    def title(self) -> str:
        """For messages."""
        few = "" if self.labels is None else f", {self.labels} labels"
        return f"{self.entry.name}{few}, fold {self.fold}"

    @property
    def seal(self) -> Path:
        """Written last; with it, the cell is finished."""
        return self.folder / "cell.json"

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.folder / "log.txt"


def sealed(cell: Cell) -> dict[str, Any] | None:
    """Content of a finished cell, ``None`` for one that is not finished.

    Raises:
        DatasetError: it was finished with other cases.
        UnreadableFileError: the seal is damaged.
    """
    from atlaseg.pipeline.io.files import read_json

    if not cell.seal.is_file():
        return None
    content = read_json(cell.seal, dict)
    test = [case.name for case in cell.test]
    if content.get("training") != list(cell.training) or content.get("test") != test:
        raise DatasetError(
            f"{cell.folder}: finished with other cases than the data set has now; choose another --out"
        )
    return {**content, "method": cell.entry.name}  # a method of an earlier version may have another name now


def run_cell(cell: Cell, conditions: Conditions, stop: threading.Event | None = None) -> dict[str, Any]:
    """Run the missing parts of a cell, score it and store it; returns its content.

    A method that fails, or whose process the system ends, is a result and no error: its cases get the worst scores.

    Args:
        cell: to be run.
        conditions: of the benchmark.
        stop: when set, the cell is left as it is.

    Raises:
        Stopped: ``stop`` was set.
        AtlasegError: the label of a test case cannot be read.
    """
    content = sealed(cell)
    if content is None:
        _fit(cell, conditions, stop)
        _label(cell, conditions, stop)
        content = _score(cell, conditions)
        _write(cell.seal, content)
        # what a fused case leaves behind, such as reports on atlases, stays; half-made registrations do not
        shutil.rmtree(cell.folder / "segment" / ".registrations", ignore_errors=True)
    return content


def forget_failures(cell: Cell) -> None:
    """Let a cell with failures be run again, as far as it failed."""
    cell.seal.unlink(missing_ok=True)
    if _read(record_of_fit(cell.folder)).get("error"):
        shutil.rmtree(cell.folder)
        return
    for case in cell.test:
        record = record_of_case(cell.folder, case.name)
        if _read(record).get("error"):
            record.unlink()


def _tell(cell: Cell, what: str) -> None:
    """Print progress; without a terminal it is the only output during a training."""
    print(f"{cell.title}: {what}; follow it in {cell.log}", file=sys.stderr, flush=True)


def _fit(cell: Cell, conditions: Conditions, stop: threading.Event | None) -> None:
    record = record_of_fit(cell.folder)
    if not record.is_file() and not _take_twin(cell):
        _tell(cell, f"learns from {len(cell.training)} cases")
        ended = _run_process(cell, conditions, "fit", stop)
        if not record.is_file():
            _record_death(record, _task(cell, conditions, "fit").clock, ended)


def _take_twin(cell: Cell) -> bool:
    """Copy the model of an earlier cell that was trained identically, with its cost; whether there was one."""
    if cell.twin is None:
        return False
    content = _read(record_of_fit(cell.twin))
    if not content or content.get("error"):
        return False
    shutil.rmtree(cell.folder / "run", ignore_errors=True)
    shutil.copytree(cell.twin / "run", cell.folder / "run", copy_function=link_or_copy)
    _write(record_of_fit(cell.folder), content)
    return True


def with_twins(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, each with the first one before it that trains in the same way on the same cases."""
    first: dict[str, Path] = {}
    found = []
    for cell in cells:
        training = [cell.entry.method, sorted(cell.entry.train.items()), cell.labels, cell.fold]
        twin = first.setdefault(repr(training), cell.folder)
        found.append(cell if twin == cell.folder else replace(cell, twin=twin))
    return found


def _label(cell: Cell, conditions: Conditions, stop: threading.Event | None) -> None:
    """Label the test scans; each process goes on until it is through or dies, then another one takes the rest."""
    if error := _read(record_of_fit(cell.folder)).get("error"):
        for case in cell.test:
            _write(record_of_case(cell.folder, case.name), {"error": f"not fitted: {error}"})
        return
    while missing := [case for case in cell.test if not record_of_case(cell.folder, case.name).is_file()]:
        _tell(cell, f"labels {len(missing)} scans")
        ended = _run_process(cell, conditions, "segment", stop)
        clock = _task(cell, conditions, "segment").clock
        left = [case.name for case in missing if not record_of_case(cell.folder, case.name).is_file()]
        guilty = _read(clock).get("name")
        # a process that dies before its first scan would do so each time
        for name in [guilty] if guilty in left else left:
            _record_death(record_of_case(cell.folder, name), clock, ended)


def _task(cell: Cell, conditions: Conditions, stage: Stage) -> Task:
    return Task(
        stage=stage,
        folder=cell.folder,
        method=cell.entry.method,
        training=cell.view,
        scans=cell.scans,
        masks=cell.masks,
        train=cell.entry.train,
        segment=cell.entry.segment,
        seed=conditions.seed,
        device=conditions.device,
        probabilities=conditions.probabilities,
        registrations=conditions.out / "registrations" if conditions.share_registrations else None,
        workers=conditions.workers,
    )


def _run_process(cell: Cell, conditions: Conditions, stage: Stage, stop: threading.Event | None) -> str:
    """Run a stage to its end; returns how it ended, in words."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    threads = str(conditions.workers)
    names = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    )
    environment = {**os.environ, **dict.fromkeys(names, threads), **safe_path_environment()}
    with (
        cell.log.open("ab") as output,
        subprocess.Popen(  # noqa: S603 (Python itself, with a module of ours)
            python_command("atlaseg.workflows.benchmarking.worker"),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that it can be ended together with the processes it starts
        ) as process,
    ):
        try:
            _hand_over(process, _task(cell, conditions, stage))
            code = _wait(process, stop)
        finally:
            _end(process)
            _hide_folders(cell.log, conditions.out)
    if code == FULL_DISK:
        raise FullDiskError(_last_line(cell.log))
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return "" if code == 0 else f"its process ended with code {code}: {_last_line(cell.log)}"


def _hand_over(process: subprocess.Popen[bytes], task: Task) -> None:
    if process.stdin is None:
        raise BrokenPipeError("a process of the benchmark has no standard input")
    try:
        # stays open: its closing tells the process that the benchmark is no more
        process.stdin.write(pickle.dumps(task))
        process.stdin.flush()
    except BrokenPipeError:
        return  # it has died already; its end is told by its exit code


def _wait(process: subprocess.Popen[bytes], stop: threading.Event | None) -> int:
    while True:
        try:
            return process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if stop is not None and stop.is_set():
                raise Stopped from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, if there is anything left of it."""
    if process.poll() is None and hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()


def _record_death(record: Path, clock: Path, ended: str) -> None:
    cost = read_cost(_read(clock)).as_dict()
    clock.unlink(missing_ok=True)
    _write(record, {**cost, "error": ended or "its process ended without a result"})


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "no message"


def _score(cell: Cell, conditions: Conditions) -> dict[str, Any]:
    """Content of ``cell.json``: who took part, scores, costs and failures."""
    from atlaseg.pipeline.evaluation.case_files import compare_files
    from atlaseg.pipeline.io.files import read_json, taking_apart

    fit, load = _read(record_of_fit(cell.folder)), _read(cell.folder / "load.json")
    costs = [{"case": "", "stage": "fit", **read_cost(fit).as_dict()}]
    if load:
        costs.append({"case": "", "stage": "load", **read_cost(load).as_dict()})
    scores, failures, confusion = [], [], None
    for case in cell.test:
        file = record_of_case(cell.folder, case.name)
        with taking_apart(file, "what became of a case"):
            record = read_json(file, dict)
            error = _without_folders(str(record["error"]), conditions.out)
            if "seconds" in record:
                costs.append({"case": case.name, "stage": "segment", **read_cost(record).as_dict()})
        found = None if error else cell.folder / "labels" / f"{case.name}.nii.gz"
        compared = compare_files(
            case.name, case.label, found, conditions.names, conditions.tolerance_mm, conditions.surface
        )
        if error:
            failures.append({"case": case.name, "error": error})
        scores += [score.as_row() for score in compared.scores]
        if found is not None:
            confusion = compared.confusion if confusion is None else confusion + compared.confusion
    return {
        "format": FORMAT,
        "method": cell.entry.name,
        "labels": cell.labels,
        "fold": cell.fold,
        "training": list(cell.training),
        "test": [case.name for case in cell.test],
        "scores": scores,
        "times": costs,
        "failures": failures,
        "confusion": None if confusion is None else confusion.tolist(),
    }


def _without_folders(text: str, out: Path) -> str:
    """The text without the folders of this machine, which have no place in a table."""
    for folder in (out.resolve(), out):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def _hide_folders(log: Path, out: Path) -> None:
    """Take the folders of this machine out of what a process has printed."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if (hidden := _without_folders(text, out)) != text:
        log.write_text(hidden, encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    """A record, or nothing where there is none."""
    from atlaseg.pipeline.io.files import read_json

    try:
        content = read_json(path)
    except AtlasegError:
        return {}
    return dict(content) if isinstance(content, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    from atlaseg.pipeline.io.files import write_text

    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")
