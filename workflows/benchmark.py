"""``atlaseg benchmark``: compare several methods on the same folds of a data set."""

from __future__ import annotations

import json
import sys
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from atlaseg.pipeline.schema import Count, NotNegative, Positive, Seed
from atlaseg.workflows.console.exit_codes import DONE, SOME_FAILED

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Dataset
    from atlaseg.workflows.benchmarking.cells import Cell, Conditions
    from atlaseg.workflows.benchmarking.entries import Entry

__all__ = ["Benchmark"]

FORMAT = 1
#: What must stay the same in a folder, and how people call it.
_FIXED = {
    "dataset": "DATASET",
    "seed": "--seed",
    "folds": "--folds",
    "first": "--first",
    "last": "--last",
    "tolerance_mm": "--tolerance-mm",
    "surface": "--surface",
    "channels": "--channels",
}
#: What holds for folders that were begun before there was such an option.
_ONCE = {"surface": "voxels"}


@dataclass(frozen=True)
class Benchmark:
    """Compare methods on the same cases: atlaseg benchmark DATASET --methods A,B --folds 5 --out OUT.

    Every method of `atlaseg train` can be compared: networks, atlases, classical methods. In each fold all are trained
    on the same cases and segment the same test scans; the labels of test cases are only read for scoring. A case that a
    method fails on counts with the worst scores and is listed.

    OUT/scores.csv and scores.parquet have one row for each case, structure, method, fold, number of labels and metric;
    summary.csv, significance.csv and ranking.csv contain the statistics, times.csv the times. The same command resumes
    after an interruption, and adds the methods that are new. See docs/explanation/comparing.md.
    """

    positional: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset: Path
    """Folder of the data set, in any layout that `atlaseg train` takes."""
    methods: tuple[str, ...]
    """Methods that `atlaseg methods` lists, separated by commas, with options of training or segmentation after a
    colon: METHOD,METHOD:minutes=12,depth=context; or YAML files of them."""
    out: Path
    """Folder for tables, label maps and models."""
    folds: Count = 5
    """Number of cross-validation folds; every labelled case is tested once."""
    first: Count | None = None
    """Instead of folds: number of first cases by name to train on; with --last."""
    last: Count | None = None
    """Instead of folds: number of last cases by name to test on; with --first."""
    labels: tuple[str, ...] = ()
    """Number of labelled cases of a fold to train on, such as 10; several (5,10,20,all) give a learning
    curve. By default all."""
    channels: tuple[str, ...] = ()
    """Names of the channels, such as CT or T1 T2, instead of those in the data set."""
    minutes: Positive | None = None
    """Training budget in minutes of networks without a budget among their options."""
    seed: Seed = 0
    """Random seed of folds, choice of cases, training and registration."""
    device: str = "auto"
    """Networks: device, auto (a GPU where available), cpu or cuda."""
    probabilities: bool = False
    """Also keep the probabilities of methods that predict them."""
    tolerance_mm: NotNegative = 1.0
    """Tolerance in mm of the surface Dice."""
    surface: Literal["voxels", "elements"] = "voxels"
    """What surfaces are made of: voxels at the border of a structure, or elements between voxels, weighted by their
    area (docs/explanation/scores.md)."""
    rank_by: tuple[str, ...] = ()
    """Metrics that methods are ranked by, joined by commas, as scores.csv names them; by default one of volumes and one
    of surfaces."""
    workers: Count = 1
    """Number of methods to run in parallel, which share the cores. Measured times are comparable with 1 only."""
    share_registrations: bool = True
    """Run equal registrations once for all methods that need them; each method is charged their time."""
    retry_failed: bool = False
    """Run cells again that failed before."""

    def run(self, executor: Executor | None = None) -> int:
        """Compare, or resume; returns 0, or 1 where a case failed.

        Args:
            executor: runs the cells, such as that of a Dask client; it must see the same files. By default threads of
                this process, since each method has processes of its own.

        Raises:
            OptionError: an option is not possible, or OUT holds another benchmark.
            AtlasegError: the data set has errors that `atlaseg check` lists.
        """
        from atlaseg.pipeline.datasets import list_dataset, read_dataset
        from atlaseg.pipeline.datasets.dataset_identity import identity
        from atlaseg.pipeline.datasets.listing import raise_at_once
        from atlaseg.workflows.benchmarking.entries import read_entries
        from atlaseg.workflows.inputs.channels import resolve_channels
        from atlaseg.workflows.inputs.checked_dataset import refuse_problems

        self._ranked_by()  # before any work, because it refuses what cannot be ranked by
        entries = read_entries(self.methods, self.minutes)
        dataset = read_dataset(self.dataset)
        about = self._about(dataset, entries)
        found = identity(list_dataset(self.dataset, raise_at_once))
        self._refuse_another(about, found)
        conditions = self._conditions(dataset)
        plan = self._plan(
            dataset, entries
        )  # before any file is written, because it refuses impossible options
        dataset = resolve_channels(dataset, refuse_problems(self.dataset), self.channels)
        self.out.mkdir(parents=True, exist_ok=True)
        return self._compare(dataset, about, conditions, plan, executor, found)

    def _compare(
        self,
        dataset: Dataset,
        about: dict[str, Any],
        conditions: Conditions,
        plan: list[tuple[Entry, int | None, Any]],
        executor: Executor | None,
        found: dict[str, Any],
    ) -> int:
        from atlaseg.pipeline.bundle import cases_text
        from atlaseg.pipeline.io.files import write_text
        from atlaseg.workflows.benchmarking.cells import with_twins
        from atlaseg.workflows.benchmarking.summary_tables import (
            about_machine,
            print_tables,
            write_about,
            write_tables,
        )

        (self.out / "dataset.path").unlink(missing_ok=True)  # of version 0.1
        write_text(self.out / "configs" / "cases.json", cases_text(dataset.labelled, (), self.dataset))
        write_text(self.out / "configs" / "request.json", json.dumps({"dataset": found}, indent=1) + "\n")
        cells = with_twins([self._cell(dataset, *parts) for parts in plan])
        folders = [cell.folder.relative_to(self.out.resolve()).as_posix() for cell in cells]
        about = {**about, **about_machine(), "cells": folders}
        write_about(self.out, {**about, "finished": False})
        if self.retry_failed:
            self._forget_failures(cells)
        with ExitStack() as unfinished:
            unfinished.callback(self._write_what_is_there, cells)
            contents = self._run_cells(cells, conditions, executor)
            unfinished.pop_all()
        tables = write_tables(self.out, contents, self.seed, self._ranked_by())
        write_about(self.out, {**about, "finished": True})
        print_tables(tables)
        print(f"Tables in {self.out}; a page of all of it: atlaseg report {self.out}")
        return SOME_FAILED if len(tables.failures) else DONE

    def _about(self, dataset: Dataset, entries: list[Entry]) -> dict[str, Any]:
        """Content of ``benchmark.json``, without details of the machine and without names of folders."""
        return {
            "format": FORMAT,
            "dataset": dataset.name,
            "command": self._command(),
            "seed": self.seed,
            "folds": self.folds if self.first is None else None,
            "first": self.first,
            "last": self.last,
            "labels": self._label_numbers(),
            "minutes": self.minutes,
            "tolerance_mm": self.tolerance_mm,
            "surface": self.surface,
            "channels": list(self.channels) or None,
            "workers": self.workers,
            "methods": [
                {
                    "name": entry.name,
                    "method": entry.method,
                    "kind": entry.family.name,
                    "options": entry.options,
                }
                for entry in entries
            ],
            "structures": {str(value): name for value, name in dataset.labels.structures.items()},
            "cases": len(dataset.labelled),
        }

    def _command(self) -> list[str]:
        from dataclasses import fields

        words = ["atlaseg", "benchmark", "DATASET"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("dataset", "retry_failed") or value == field.default:
                continue
            option = f"--{field.name.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(option if value else f"--no-{option[2:]}")
            elif isinstance(value, tuple):
                words += [option, *(Path(v).name if v.endswith((".yaml", ".yml")) else v for v in value)]
            else:
                words += [option, "OUT" if isinstance(value, Path) else str(value)]
        return words

    def _label_numbers(self) -> list[int | None]:
        """Numbers of labelled training cases; ``None`` for all of the fold.

        Raises:
            OptionError: one is not a number, or is given twice.
        """
        from atlaseg.pipeline.errors import OptionError

        words = [word.strip() for text in self.labels for word in text.split(",") if word.strip()]
        if unfit := [word for word in words if word != "all" and not word.isdecimal()]:
            raise OptionError(f"--labels {unfit[0]}: expected numbers of cases, such as 5,10,20, or all")
        numbers = [None if word == "all" else int(word) for word in words]
        if len(set(numbers)) < len(numbers):
            raise OptionError(f"--labels {' '.join(self.labels)}: give each number once")
        return numbers or [None]

    def _ranked_by(self) -> list[str]:
        """Names of the metrics that the ranking is made of.

        Raises:
            OptionError: one is not known, or has no better and worse end.
        """
        from atlaseg.pipeline.evaluation.metrics import ranked_metrics

        words = [word.strip() for text in self.rank_by for word in text.split(",") if word.strip()]
        return [metric.name for metric in ranked_metrics(words)]

    def _refuse_another(self, about: dict[str, Any], found: dict[str, Any]) -> None:
        """Refuse a folder that holds anything other than an earlier part of this benchmark."""
        from atlaseg.pipeline.datasets.dataset_identity import difference
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.pipeline.io.files import read_json

        file, path = self.out / "benchmark.json", self.out / "dataset.path"
        if not file.is_file():
            if self.out.is_dir() and any(
                p.name not in (path.name, "configs", "folds", "registrations") for p in self.out.iterdir()
            ):
                raise OptionError(f"{self.out}: not empty and not a benchmark; choose another --out")
            return
        earlier = read_json(file, dict)
        different = [
            option for key, option in _FIXED.items() if earlier.get(key, _ONCE.get(key)) != about[key]
        ]
        request = self.out / "configs" / "request.json"
        if request.is_file() and (problem := difference(read_json(request, dict).get("dataset"), found)):
            different.append(f"DATASET ({problem})")
        if different:
            raise OptionError(
                f"{self.out}: holds a benchmark with another {', '.join(dict.fromkeys(different))}; give the same "
                "to resume it, or another --out"
            )

    def _conditions(self, dataset: Dataset) -> Conditions:
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.pipeline.system.worker_processes import available_cores
        from atlaseg.workflows.benchmarking.cells import Conditions

        if self.workers < 1:
            raise OptionError(f"--workers must be at least 1, found {self.workers}")
        if not 0 <= self.tolerance_mm < float("inf"):
            raise OptionError(f"--tolerance-mm must be at least 0 and finite, found {self.tolerance_mm}")
        return Conditions(
            out=self.out.resolve(),
            names=dataset.labels,
            seed=self.seed,
            device=self.device,
            probabilities=self.probabilities,
            share_registrations=self.share_registrations,
            workers=max(1, available_cores() // self.workers),
            tolerance_mm=self.tolerance_mm,
            surface=self.surface,
        )

    def _plan(self, dataset: Dataset, entries: list[Entry]) -> list[tuple[Entry, int | None, Any]]:
        """Method, number of labels and fold of each cell; the folds of a method lie together."""
        from atlaseg.workflows.benchmarking.folds import choose_training, make_folds, refuse_test_scans

        names = [case.name for case in dataset.labelled]
        folds = make_folds(names, self.folds, self.seed, self.first, self.last)
        numbers = self._label_numbers()
        for labels in numbers:
            for fold in folds:
                choose_training(fold, labels)
        tested = {name for fold in folds for name in fold.test}
        for entry in entries:
            job, family = entry.job(), entry.family
            family.check_dataset(job, dataset)
            if (further := family.further_scans(job)) is not None:
                refuse_test_scans(further, [case for case in dataset.labelled if case.name in tested])
        return [(entry, labels, fold) for labels in numbers for entry in entries for fold in folds]

    def _cell(self, dataset: Dataset, entry: Entry, labels: int | None, fold: Any) -> Cell:
        from atlaseg.workflows.benchmarking.cells import Cell
        from atlaseg.workflows.benchmarking.folds import choose_training, show_scans, show_training

        few = f"labels-{'all' if labels is None else labels}"
        part = Path(few) / f"fold-{fold.number}"
        views = self.out.resolve() / "folds"
        masks = self.dataset / "masks" if (self.dataset / "masks").is_dir() else None
        test = dataset.subset(fold.test).cases
        training = choose_training(fold, labels)
        scans = show_scans(views / "test" / f"fold-{fold.number}", test, masks)
        cells = self.out.resolve() / "cells"
        slugs = entry.slugs(seed=self.seed, device=self.device)
        # of an earlier version that called the method otherwise
        slug = next((slug for slug in slugs if (cells / slug).is_dir()), slugs[0])
        return Cell(
            folder=cells / slug / part,
            entry=entry,
            labels=labels,
            fold=fold.number,
            training=training,
            test=test,
            view=show_training(views / "training" / part, dataset, training, masks),
            scans=scans.files,
            masks=scans.masks,
        )

    def _forget_failures(self, cells: list[Cell]) -> None:
        from atlaseg.workflows.benchmarking.cells import forget_failures, sealed

        for cell in cells:
            if (content := sealed(cell)) is not None and content["failures"]:
                forget_failures(cell)

    def _run_cells(
        self, cells: list[Cell], conditions: Conditions, executor: Executor | None
    ) -> list[dict[str, Any]]:
        """Contents of all cells, in their order."""
        import threading
        from concurrent.futures import ThreadPoolExecutor, as_completed

        from atlaseg.workflows.benchmarking.cells import run_cell, sealed

        finished = {n: content for n, cell in enumerate(cells) if (content := sealed(cell)) is not None}
        if finished:
            print(f"{len(finished)} of {len(cells)} parts are finished already", file=sys.stderr)
        missing = [n for n in range(len(cells)) if n not in finished]
        stop = None if executor is not None else threading.Event()
        own = ThreadPoolExecutor(self.workers) if executor is None else None
        pool: Any = executor or own
        try:
            # an event cannot be sent to another machine, and nothing there would be stopped by it
            futures = {
                pool.submit(run_cell, cells[n], conditions, *([stop] if stop else [])): n for n in missing
            }
            for future in as_completed(futures):
                number = futures[future]
                finished[number] = future.result()
                print(
                    f"[{len(finished)}/{len(cells)}] {cells[number].title}: {_said(finished[number])}",
                    flush=True,
                )
        finally:
            if stop is not None:
                stop.set()
            if own is not None:
                own.shutdown(cancel_futures=True)
        return [finished[n] for n in range(len(cells))]

    def _write_what_is_there(self, cells: list[Cell]) -> None:
        """Tables of the finished cells, so that an interrupted benchmark can be looked at."""
        from atlaseg.workflows.benchmarking.cells import sealed
        from atlaseg.workflows.benchmarking.summary_tables import write_tables

        if contents := [content for cell in cells if (content := sealed(cell)) is not None]:
            write_tables(self.out, contents, self.seed, self._ranked_by())


def _said(content: dict[str, Any]) -> str:
    """A finished cell in one line."""
    from atlaseg.pipeline.evaluation.metrics import main_metric

    main = main_metric()
    numbers = [score[main.name] for score in content["scores"]]
    seconds = {
        stage: sum(cost["seconds"] for cost in content["times"] if cost["stage"] == stage)
        for stage in ("fit", "segment")
    }
    failed = f", {len(content['failures'])} FAILED" if content["failures"] else ""
    return (
        f"{main.label} {sum(numbers) / len(numbers):.4f}, fit {seconds['fit']:.0f} s, "
        f"segment {seconds['segment'] / len(content['test']):.1f} s a scan{failed}"
    )
