"""One method on one fold, in a process of its own: learns from the training cases, labels the scans of the test cases.

The process is handed the folder of the training cases and the scans of the test cases, and no more: it never learns
where the labels of the test cases are. It is a process of its own so that its memory is measured by itself, and so
that one that the system ends (out of memory) takes nothing else along.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atlaseg.pipeline.errors import FullDiskError
from atlaseg.pipeline.io.full_disk import full_disk_as_error
from atlaseg.pipeline.system.parent_watch import end_with_parent

if TYPE_CHECKING:
    from atlaseg.workflows.benchmarking.meter import Cost
    from atlaseg.workflows.methods.labeller import Labeller

__all__ = ["FULL_DISK", "Task", "record_of_case", "record_of_fit"]

#: Exit code of a process that found no space on the disk, which is no fault of the method.
FULL_DISK = 28

#: Registrations of training scans to each other, beside those of the test scans; no case is called so.
TRAINING = ".training"

Stage = Literal["fit", "segment"]


@dataclass(frozen=True)
class Task:
    """What one process does.

    Args:
        stage: ``fit`` or ``segment``.
        folder: of the cell: ``run/``, ``labels/`` and records go into it.
        method: its name.
        training: data set with the training cases only.
        scans: files of each test scan; no labels.
        masks: folder of masks of the test scans, if the data set has masks.
        train: fields of the job that trains.
        segment: fields of the job that labels.
        seed: of everything random, unless ``train`` has one.
        device: of networks.
        probabilities: whether they are written.
        registrations: folder of finished registrations, which all methods share; ``None``: each makes its own.
        workers: processes and threads that the method may use.
    """

    stage: Stage
    folder: Path
    method: str
    training: Path
    scans: dict[str, tuple[Path, ...]]
    masks: Path | None = None
    train: dict[str, Any] = field(default_factory=dict)
    segment: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    probabilities: bool = False
    registrations: Path | None = None
    workers: int = 1

    def run(self) -> None:
        """Do it; what comes of it is on disk afterwards, a failure included.

        A failure that nobody foresaw ends the process, and the benchmark takes note.
        """
        if self.stage == "fit":
            self._fit()
        else:
            self._segment()

    @property
    def clock(self) -> Path:
        """File that says what is under way and what it has cost so far."""
        return self.folder / f"{self.stage}-under-way.json"

    def _fit(self) -> None:
        from atlaseg.pipeline.errors import AtlasegError
        from atlaseg.workflows.benchmarking.meter import Meter, Registrations
        from atlaseg.workflows.benchmarking.whole_fold import WholeFold
        from atlaseg.workflows.methods.families import find_method

        work = None if self.registrations is None else self.registrations / TRAINING
        own: dict[str, Any] = {
            "seed": self.seed,
            "device": self.device,
            "tracking": "none",
            "work": work,
        }
        # an option that a method does not take would be refused
        taken = ("seed", *find_method(self.method).family.training)
        settings = {name: value for name, value in own.items() if name in taken}
        job = WholeFold.of(
            self.training, self.folder / "run", method=self.method, **{**settings, **self.train}
        )
        error, registrations = "", Registrations(work)
        with Meter(self.clock, "") as meter:
            try:
                job.run()
            except FullDiskError:
                raise  # no fault of the method
            except (AtlasegError, MemoryError) as problem:
                error = _one_line(problem)
        # what an earlier attempt had registered is in its seconds already
        reused = registrations.reused_seconds() / self.workers
        cost = meter.cost.plus(max(0.0, reused - meter.earlier.seconds))
        _write(record_of_fit(self.folder), cost, error)

    def _segment(self) -> None:
        from atlaseg.pipeline.errors import AtlasegError
        from atlaseg.pipeline.failures import user_error
        from atlaseg.workflows.benchmarking.meter import Meter
        from atlaseg.workflows.methods.families import find_method
        from atlaseg.workflows.methods.labelling_job import LabellingJob

        own = {
            "masks": self.masks,
            "device": self.device,
            "workers": self.workers,
            "work": self.registrations,
        }
        family = find_method(self.method).family
        settings = {name: value for name, value in own.items() if name in family.labelling}
        scans = {n: files for n, files in self.scans.items() if not record_of_case(self.folder, n).is_file()}
        files = tuple(path for paths in scans.values() for path in paths)
        run = self.folder / "run"
        job = LabellingJob.of(
            (run, *files),
            self.folder / "segment",
            probabilities=self.probabilities,
            **{**settings, **self.segment},
        )
        with Meter(self.clock, "") as meter:
            labeller = family.labeller(job, (run,))
        (self.folder / "load.json").write_text(json.dumps(meter.cost.as_dict()))
        with labeller:
            for name, paths in scans.items():
                error = ""
                with Meter(self.clock, name) as meter:
                    try:
                        reused = self._label(labeller, name, paths)
                    except FullDiskError:
                        raise
                    except (AtlasegError, RuntimeError, MemoryError) as problem:
                        # torch reports exhausted memory as RuntimeError; the other scans go on
                        error, reused = (
                            _one_line(user_error(problem, str(paths[0]), "cannot be labelled")),
                            0.0,
                        )
                # what an earlier attempt of this very case had registered is in its seconds already
                cost = meter.cost.plus(max(0.0, reused - meter.earlier.seconds))
                _write(record_of_case(self.folder, name), cost, error)
            labeller.finish()

    def _label(self, labeller: Labeller, name: str, files: tuple[Path, ...]) -> float:
        """Label one scan; returns the seconds of work that had been done for another method before."""
        from atlaseg.workflows.benchmarking.meter import Registrations

        registrations = Registrations(None if self.registrations is None else self.registrations / name)
        result = labeller.label(name, files, name)
        file = f"{name}.nii.gz"
        result.save(self.folder / "labels" / file, files[0], self.folder / "probabilities" / file)
        return registrations.reused_seconds() / self.workers


def record_of_fit(folder: Path) -> Path:
    """File that says what fitting cost and whether it failed."""
    return folder / "fit.json"


def record_of_case(folder: Path, name: str) -> Path:
    """File that says what labelling a case cost and whether it failed."""
    return folder / "cases" / f"{name}.json"


def _write(path: Path, cost: Cost, error: str) -> None:
    from atlaseg.pipeline.io.files import write_text

    write_text(path, json.dumps({**cost.as_dict(), "error": error}) + "\n")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _end_all_with_parent() -> None:
    """End this process and its own as soon as the benchmark ends, however it ends: the pipe from it closes then."""
    # the system's own call: a buffered reader could not be closed at the end of the process while a thread waits in it
    os.read(sys.stdin.fileno(), 1)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Take the task from standard input, whose other end the benchmark holds open as long as it lives."""
    end_with_parent(os.getppid())
    # nobody but the parent process writes into this pipe
    task: Task = pickle.load(sys.stdin.buffer)  # noqa: S301
    threading.Thread(target=_end_all_with_parent, daemon=True).start()
    try:
        with full_disk_as_error(task.folder):
            task.run()
    except FullDiskError as error:
        print(error, file=sys.stderr)
        sys.exit(FULL_DISK)
