"""``atlaseg evaluate``: label maps against references, as a table, a summary and a box plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    MissingFileError,
    OptionError,
)
from atlaseg.pipeline.schema import Count, NotNegative
from atlaseg.workflows.inputs.pairing import Pair, pair_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console
    from rich.text import Text

    from atlaseg.pipeline.case import LabelTable
    from atlaseg.pipeline.evaluation.metrics import Metric
    from atlaseg.pipeline.evaluation.scores import Score
    from atlaseg.pipeline.evaluation.statistics import Summary
    from atlaseg.pipeline.evaluation.surface import Surface

__all__ = ["Evaluate", "read_label_names"]

_NAME_FILES = ("dataset.json", "labels.json", "plan.yaml")


@dataclass(frozen=True, eq=False)
class _Outcome:
    """Result of one case: scores (and counts, where there was a prediction), or a problem."""

    case: str
    scores: Sequence[Score] = ()
    confusion: npt.NDArray[np.int64] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Evaluate:
    """Compare predicted label maps with references, by structure, with confidence intervals of the means.

    Files are paired by name. A case without a prediction counts with the worst scores. docs/explanation/scores.md
    defines every score and what holds where a structure is empty.

    Args:
        predictions: folder of label maps, or one file.
        references: folder of label maps to compare with, or one file.
        out: table.csv, a row per case and structure; table.json gets the summary, table.png a box plot.
        tolerance_mm: distance in mm that the surface Dice takes as agreement.
        surface: what surfaces are made of: voxels at the border of a structure, or elements between voxels, weighted by
            their area, as some other software has them (docs/explanation/scores.md).
        labels: names of the structures: a plan.yaml, or a data set's folder or dataset.json. By default
            one of these beside the references, else names are made from the label values.
        only_predicted: leave out references without a prediction (such as the training cases of a fold)
            instead of counting them with the worst scores.
        workers: processes that compare cases at the same time.
    """

    predictions: Path
    references: Path
    out: Path | None = None
    tolerance_mm: NotNegative = 1.0
    surface: Literal["voxels", "elements"] = "voxels"
    labels: Path | None = None
    only_predicted: bool = False
    workers: Count = 1

    positional: ClassVar[tuple[str, ...]] = ("predictions", "references")

    def run(self) -> int:
        """Compare, print and write.

        Returns:
            0, or 1 where a prediction is missing or a case could not be compared.

        Raises:
            OptionError: an option has no sensible value.
            MissingFileError: a folder or file that was named is not there.
            DatasetError: there is nothing to compare.
        """
        from rich.console import Console

        self._check()
        pairing = pair_files(self.predictions, self.references)
        pairs = pairing.pairs
        if self.only_predicted:
            pairs = [pair for pair in pairs if pair.prediction is not None]
        console, problems = Console(), Console(stderr=True)
        for note in pairing.notes:
            _say(problems, note)
        outcomes = [_Outcome(name, problem=problem) for name, problem in pairing.problems.items()]
        with _parallel(self.workers) as over_cases:
            table = self._label_table(pairs, over_cases, outcomes, problems)
            bad = {outcome.case for outcome in outcomes}
            work = partial(_compare, labels=table, tolerance_mm=self.tolerance_mm, surface=self.surface)
            good = [pair for pair in pairs if pair.case not in bad]
            outcomes += _with_progress(over_cases(work, good), len(good))
        missing = [pair.case for pair in pairs if pair.prediction is None]
        if any(outcome.scores for outcome in outcomes):
            self._report(outcomes, missing, table, console)
        return _list_problems(outcomes, missing, problems)

    def _check(self) -> None:
        if not 0 <= self.tolerance_mm < math.inf:
            raise OptionError(f"tolerance must be at least 0 mm and finite, found {self.tolerance_mm}")
        if self.workers < 1:
            raise OptionError(f"workers must be at least 1, found {self.workers}")
        if self.out is not None and (self.out.suffix.lower() != ".csv" or self.out.is_dir()):
            raise OptionError(
                f"{self.out}: the table is a .csv file, give a name such as {self.out}/scores.csv"
            )

    def _label_table(
        self, pairs: Sequence[Pair], over_cases: _Map, outcomes: list[_Outcome], problems: Console
    ) -> LabelTable:
        """Names as asked for, else as found beside the references, else made from all values in the files."""
        from atlaseg.pipeline.case import LabelTable

        table = read_label_names(self.labels) if self.labels else None
        if self.labels is None and (beside := _find_names(self.references)):
            try:
                table = read_label_names(beside)
                _say(problems, f"structure names from {beside}")
            except AtlasegError as error:
                _say(problems, f"structure names are not taken from there: {error}")
        if table is not None:
            return table
        values: set[int] = {0}
        for case, found, problem in over_cases(_values, pairs):
            values |= found
            if problem:
                outcomes.append(_Outcome(case, problem=problem))
        return LabelTable.from_values(values)

    def _report(
        self, outcomes: Sequence[_Outcome], missing: Sequence[str], labels: LabelTable, console: Console
    ) -> None:
        """Summary on the screen; table, summary and box plot where they were asked for."""
        import numpy as np

        from atlaseg.pipeline.evaluation.box_plot import write_box_plot
        from atlaseg.pipeline.evaluation.score_files import write_csv, write_json
        from atlaseg.pipeline.evaluation.statistics import summarise

        scores = [score for outcome in outcomes for score in outcome.scores]
        summaries = summarise(scores)
        _print_summary(summaries, self.tolerance_mm, self.surface, console)
        if self.out is None:
            return
        confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
        for outcome in outcomes:
            if outcome.confusion is not None:
                confusion += outcome.confusion
        about = {
            "tolerance_mm": self.tolerance_mm,
            "surface": self.surface,
            "cases": [outcome.case for outcome in outcomes if outcome.scores],
            "missing_predictions": list(missing),
            "not_compared": [outcome.case for outcome in outcomes if outcome.problem],
            "interval": "95% percentile bootstrap of the mean over cases, 2000 resamples, seed 0",
        }
        json, png = self.out.with_suffix(".json"), self.out.with_suffix(".png")
        write_csv(self.out, scores)
        write_json(json, summaries, confusion, labels, about)
        write_box_plot(png, scores, self.tolerance_mm)
        _say(console, f"table {self.out}, summary and confusion matrix {json}, box plot {png}")


def _find_names(references: Path) -> Path | None:
    """File with structure names in the folder of the references or the one above it."""
    folder = (references if references.is_dir() else references.parent).resolve()
    candidates = [place / name for place in (folder, folder.parent) for name in _NAME_FILES]
    return next((path for path in candidates if path.is_file()), None)


def read_label_names(path: Path) -> LabelTable:
    """Label values and names from a plan (``.yaml``), or from a data set's folder or the JSON file in it.

    Raises:
        MissingFileError: it is not there.
        DatasetError, PlanError: it does not name label values.
    """
    from atlaseg.pipeline.datasets.reader import list_dataset
    from atlaseg.pipeline.planning.plan_file import load_plan

    if path.suffix.lower() in {".yaml", ".yml"}:
        return load_plan(path).labels
    if not path.exists():
        raise MissingFileError(f"{path}: no such file; give a plan.yaml or a data set's dataset.json")
    # Names are wanted, not images: scans that are absent here are no obstacle.
    labels = list_dataset(path if path.is_dir() else path.parent, lambda _error, _file: None).labels
    if labels is None:
        raise DatasetError(f"{path}: does not name its label values; give a plan.yaml, or add labels.json")
    return labels


# One process's share of the work: everything below takes and returns what can be pickled.

_Map = Callable[..., Iterable[Any]]


def _values(pair: Pair) -> tuple[str, set[int], str]:
    """Label values of a pair of files, for data without names."""
    from atlaseg.pipeline.datasets.reader import label_values

    try:
        files = [path for path in (pair.reference, pair.prediction) if path is not None]
        return pair.case, {value for path in files for value in label_values(path)}, ""
    except AtlasegError as error:
        return pair.case, set(), str(error)


def _compare(pair: Pair, labels: LabelTable, tolerance_mm: float, surface: Surface) -> _Outcome:
    """Scores of one case, or what is wrong with it."""
    from atlaseg.pipeline.evaluation.case_files import compare_files

    try:
        result = compare_files(pair.case, pair.reference, pair.prediction, labels, tolerance_mm, surface)
        return _Outcome(pair.case, result.scores, result.confusion)
    except AtlasegError as error:
        return _Outcome(pair.case, problem=str(error))


@contextmanager
def _parallel(workers: int) -> Iterator[_Map]:
    """``map`` in this process, or in a pool of fresh ones (forking a process that runs threads may hang)."""
    if workers == 1:
        yield map
        return
    from concurrent.futures import BrokenExecutor

    from atlaseg.pipeline.system.worker_processes import worker_pool

    try:
        with worker_pool(workers) as pool:
            yield pool.map
    except BrokenExecutor as error:
        raise OptionError(
            f"one of {workers} workers was ended by the system, most likely for memory; use fewer --workers"
        ) from error


def _with_progress(outcomes: Iterable[_Outcome], total: int) -> list[_Outcome]:
    from atlaseg.pipeline.progress import ProgressDisplay

    found = []
    with ProgressDisplay("comparing", total, "case") as progress:
        for outcome in outcomes:
            found.append(outcome)
            progress.show(len(found))
    return found


def _print_summary(
    summaries: Sequence[Summary], tolerance_mm: float, surface: Surface, console: Console
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("structure")
    main, *others = _shown()
    for title in (f"{main.label} [95% CI]", "median", "worst", *(metric.label for metric in others)):
        table.add_column(title, justify="right", no_wrap=True)
    *structures, everything = summaries
    for summary in structures:
        table.add_row(*_row(summary))
    table.add_section()
    table.add_row(*_row(everything))
    console.print(table)
    found = everything.metrics[main.name]
    units = {
        unit: [m.label for m in others if m.unit == unit] for unit in dict.fromkeys(m.unit for m in others)
    }
    in_units = [f"{' and '.join(names)} in {unit}" for unit, names in units.items() if unit]
    near = [f"{metric.label} at {tolerance_mm:g} mm" for metric in others if metric.at_tolerance]
    _say(
        console,
        f"means over {found.n} case{'s' * (found.n != 1)}; {', '.join(in_units + near)}, all by surface {surface}; "
        f"worst case {found.worst_case} ({main.label} {found.worst:.3f} over its structures)",
    )
    if everything.notes:
        notes = ", ".join(f"{count} x {note}" for note, count in everything.notes.items())
        _say(console, f"scored by the rule for empty structures, marked in the table: {notes}")


def _shown() -> list[Metric]:
    """Metrics that the screen has room for: those that methods are tested by, the main one first."""
    from atlaseg.pipeline.evaluation.metrics import main_metric, tested_metrics

    main = main_metric()
    return [main, *(metric for metric in tested_metrics() if metric.name != main.name)]


def _row(summary: Summary) -> list[Text]:
    from rich.text import Text

    main, *others = _shown()
    found = summary.metrics[main.name]
    interval = "n too small" if found.interval is None else "{:.3f}, {:.3f}".format(*found.interval)
    cells = [
        summary.structure,
        f"{found.mean:.3f} [{interval}]",
        f"{found.median:.3f}",
        f"{found.worst:.3f}",
        *(
            f"{summary.metrics[metric.name].mean:.{metric.decimals}f}"
            if metric.name in summary.metrics
            else ""
            for metric in others
        ),
    ]
    # As plain strings, square brackets would be read as markup and vanish.
    return [Text(cell) for cell in cells]


def _list_problems(outcomes: Sequence[_Outcome], missing: Sequence[str], console: Console) -> int:
    """Say which cases were missing or could not be compared; the exit code."""
    bad = [outcome for outcome in outcomes if outcome.problem]
    if missing:
        _say(console, f"{len(missing)} without a prediction, counted as worst: {', '.join(missing)}")
    if bad:
        _say(console, f"{len(bad)} not compared, in no mean:")
    for outcome in bad:
        _say(console, f"  {outcome.case}: {outcome.problem}")
    return 1 if bad or missing else 0


def _say(console: Console, text: str) -> None:
    """One line as it is: file names are not markup and are not broken."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
