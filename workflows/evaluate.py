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
    OptionError,
)
from atlaseg.pipeline.schema import Count, NotNegative
from atlaseg.workflows.console.screen import say
from atlaseg.workflows.inputs.label_names import NAME_FILES, find_label_names, read_label_names
from atlaseg.workflows.inputs.pairing import Pair, pair_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console

    from atlaseg.pipeline.case import LabelTable
    from atlaseg.pipeline.evaluation.scores import Score
    from atlaseg.pipeline.evaluation.surface import Surface

__all__ = ["Evaluate"]


#: Beside the table: the summary and the picture.
_BESIDE = (".json", ".png")


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
        pairing = pair_files(self.predictions, self.references, self._known_files())
        pairs = pairing.pairs
        if self.only_predicted:
            pairs = [pair for pair in pairs if pair.prediction is not None]
        console, problems = Console(), Console(stderr=True)
        for note in pairing.notes:
            say(problems, note)
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

    def _known_files(self) -> list[Path]:
        """Files that names of structures are read from, and those that this job has written before."""
        names = [path / name for path in (self.predictions, self.references) for name in NAME_FILES]
        if self.out is not None:
            names += [self.out, *(self.out.with_suffix(end) for end in _BESIDE)]
        return names

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
        if self.labels is None and (beside := find_label_names(self.references)):
            try:
                table = read_label_names(beside)
                say(problems, f"structure names from {beside}")
            except AtlasegError as error:
                say(problems, f"structure names are not taken from there: {error}")
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
        from atlaseg.workflows.console.score_summary import print_summary

        scores = [score for outcome in outcomes for score in outcome.scores]
        summaries = summarise(scores)
        print_summary(summaries, self.tolerance_mm, self.surface, console)
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
        json, png = (self.out.with_suffix(end) for end in _BESIDE)
        write_csv(self.out, scores)
        write_json(json, summaries, confusion, labels, about)
        write_box_plot(png, scores, self.tolerance_mm)
        say(console, f"table {self.out}, summary and confusion matrix {json}, box plot {png}")


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


def _list_problems(outcomes: Sequence[_Outcome], missing: Sequence[str], console: Console) -> int:
    """Say which cases were missing or could not be compared; the exit code."""
    bad = [outcome for outcome in outcomes if outcome.problem]
    if missing:
        say(console, f"{len(missing)} without a prediction, counted as worst: {', '.join(missing)}")
    if bad:
        say(console, f"{len(bad)} not compared, in no mean:")
    for outcome in bad:
        say(console, f"  {outcome.case}: {outcome.problem}")
    return 1 if bad or missing else 0
