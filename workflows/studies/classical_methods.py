"""``atlaseg study classical``: Dice, time and memory of the classical methods on the same scans."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from atlaseg.pipeline.errors import AtlasegError, DatasetError, OptionError
from atlaseg.pipeline.schema import Count, Seed
from atlaseg.workflows.console.exit_codes import DONE, SOME_FAILED
from atlaseg.workflows.methods.classical.classical_family import CLASSICAL

if TYPE_CHECKING:
    import numpy.typing as npt

    from atlaseg.pipeline.case import Case, Dataset

__all__ = ["ClassicalBenchmark", "Row"]

#: Not a method: each voxel has the label that is most likely at its place; what the methods add is beyond this.
PRIOR = "prior"


@dataclass(frozen=True)
class Row:
    """One scan labelled by one method.

    Args:
        method: with its options.
        case: name of the scan.
        dice: mean over the structures.
        seconds: of processor time to label the scan.
        fit_seconds: of processor time to learn from the training scans.
    """

    method: str
    case: str
    dice: float
    seconds: float
    fit_seconds: float


@dataclass(frozen=True)
class ClassicalBenchmark:
    """Label scans whose labels are known by classical methods and compare: atlaseg study classical DATASET.

    By default each labelled case is labelled by what all others teach (leave-one-out). With --first 10 --last 20 the
    first ten cases by name are learnt from and the last twenty labelled. Masks in DATASET/masks are used.
    With --sizes, volumes of made scans of these sizes are labelled too, each in a process of its own, for time
    against size and peak memory.
    """

    positional: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset: Path
    """Folder of labelled cases."""
    out: Path
    """Folder for scores.csv, structures.csv and sizes.csv."""
    methods: tuple[str, ...] = ()
    """Classical methods, with options or without, such as METHOD:components=6; prior: location alone; or a fusion rule
    for atlases, to compare with (its registrations take their time). By default the prior and all classical ones."""
    first: Count | None = None
    """Number of first cases by name to learn from, with --last."""
    last: Count | None = None
    """Number of last cases by name to segment, with --first."""
    sizes: tuple[Count, ...] = ()
    """Edges in voxels of cubes to time, such as 64 128 256; at most ten minutes of processor time each."""
    seed: Seed = 0
    """Random seed."""

    def _methods(self) -> tuple[str, ...]:
        return self.methods or (PRIOR, *CLASSICAL.names())

    def run(self) -> int:
        """Compare; returns 0, or 1 where a method failed on a scan.

        Raises:
            OptionError: there is no such method, or --first and --last do not fit.
            DatasetError: there are too few labelled cases.
        """
        from atlaseg.pipeline.datasets import read_dataset

        for text in self._methods():
            self._segmenter(text)  # refuses before any work is done
        dataset = read_dataset(self.dataset)
        rows: list[Row] = []
        structures: list[dict[str, Any]] = []
        failed: list[str] = []
        for text in self._methods():
            for case, row, dice in self._label(text, dataset, failed):
                rows.append(row)
                named = zip(dataset.labels.names[1:], dice, strict=True)
                structures += [{"method": text, "case": case, "structure": n, "dice": d} for n, d in named]
            self._write("scores.csv", [asdict(row) for row in rows])
            self._write("structures.csv", structures)
        print(summary(rows))
        self._time(failed)
        for line in failed:
            print(f"FAILED {line}")
        return SOME_FAILED if failed else DONE

    def _label(
        self, text: str, dataset: Dataset, failed: list[str]
    ) -> Iterator[tuple[str, Row, npt.NDArray[Any]]]:
        """Scores of one method, scan by scan; a method is taught once for each set of training cases."""
        fitted: tuple[tuple[str, ...], Any, float] | None = None
        for number, (case, names) in enumerate(tasks := self._tasks(dataset), start=1):
            try:
                if fitted is None or fitted[0] != names:
                    begun = time.process_time()
                    fitted = names, self._fit(text, dataset, names), time.process_time() - begun
                dice, seconds = self._score(fitted[1], dataset, case)
            except AtlasegError as error:
                failed.append(f"{text} {case.name}: {error}")
                continue
            mean = float(dice.mean())
            print(f"{text} [{number}/{len(tasks)}] {case.name}: {mean:.4f}, {seconds:.1f} s", flush=True)
            yield case.name, Row(text, case.name, mean, seconds, fitted[2]), dice

    def _tasks(self, dataset: Dataset) -> list[tuple[Case, tuple[str, ...]]]:
        """Scans to label, each with the names of the cases to learn from."""
        cases = dataset.labelled
        if (self.first is None) != (self.last is None):
            raise OptionError("--first and --last go together: the first cases teach, the last are labelled")
        if self.first is None or self.last is None:
            if len(cases) < 2:
                raise DatasetError(f"{self.dataset}: {len(cases)} labelled case; leave-one-out needs 2")
            return [(case, tuple(c.name for c in cases if c is not case)) for case in cases]
        if self.first < 1 or self.last < 1 or self.first + self.last > len(cases):
            raise OptionError(
                f"--first {self.first} and --last {self.last}: {len(cases)} labelled cases are there, choose fewer"
            )
        names = tuple(case.name for case in cases[: self.first])
        return [(case, names) for case in cases[-self.last :]]

    def _segmenter(self, text: str) -> Any:
        from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
        from atlaseg.pipeline.classical.registry import option_names, read_options
        from atlaseg.workflows.methods.atlases.atlas_family import ATLASES
        from atlaseg.workflows.methods.families import find_method

        name, *words = text.split(":")
        if name == PRIOR:
            # one cluster tells nothing apart: what is left is where structures lie
            clustering = next(known for known in CLASSICAL.names() if "clusters" in option_names(known))
            return ClassicalSegmenter(method=clustering, options={"clusters": 1}, seed=self.seed)
        method = find_method(name)
        if method.family is ATLASES and not words:
            from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter

            return MultiAtlasSegmenter(fusion=method.part.name)
        if method.family is not CLASSICAL:
            raise OptionError(
                f"--methods {text}: expected a classical method, prior, or an atlas method without options"
            )
        return ClassicalSegmenter(method=name, options=read_options(name, words), seed=self.seed)

    def _fit(self, text: str, dataset: Dataset, names: tuple[str, ...]) -> Any:
        from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
        from atlaseg.workflows.methods.classical.classical_training import masks_of

        segmenter, training = self._segmenter(text), dataset.subset(names)
        if isinstance(segmenter, ClassicalSegmenter):
            return segmenter.fit(training, masks_of(self.dataset, list(names)))
        return segmenter.fit(training)

    def _score(self, segmenter: Any, dataset: Dataset, case: Case) -> tuple[npt.NDArray[Any], float]:
        from atlaseg.pipeline.evaluation.confusion_matrix import confusion_of_indices, dice_of_labels
        from atlaseg.pipeline.io.volume import read_image, read_label_map
        from atlaseg.workflows.inputs.scan_masks import mask_of

        masks = self.dataset / "masks"
        image, mask = (
            read_image(case.images),
            mask_of(masks if masks.is_dir() else None, case.name, case.images[0]),
        )
        begun = time.process_time()
        result = segmenter.segment(image, mask=mask)
        seconds = time.process_time() - begun
        if case.label is None:
            raise DatasetError(f"{case.name}: has no label map")
        truth = dataset.labels.to_indices(read_label_map(case.label))
        found = dataset.labels.to_indices(result.label_map)
        return dice_of_labels(confusion_of_indices(found, truth, len(dataset.labels)))[1:], seconds

    def _time(self, failed: list[str]) -> None:
        if not self.sizes:
            return
        from atlaseg.workflows.studies.classical_timing import time_methods

        known = CLASSICAL.names()
        texts = [text for text in self._methods() if text.split(":")[0] in known]
        rows = []
        for row in time_methods(texts, self.sizes, failed):
            print(f"{row.method} {row.size}^3: {row.seconds:.1f} s, peak {row.peak_mb:.0f} MB", flush=True)
            rows.append(asdict(row))
            self._write("sizes.csv", rows)

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        import pandas as pd

        from atlaseg.pipeline.io.files import write_text

        write_text(self.out / name, pd.DataFrame(rows).to_csv(index=False))


def summary(rows: list[Row]) -> str:
    """Table of the methods: mean and worst Dice over the cases, and seconds of processor time.

    >>> print(summary([Row("some", "a", 0.5, 1.0, 2.0), Row("some", "b", 0.7, 3.0, 2.0)]))
    method   Dice  worst  s per case  s to fit
    some    0.600  0.500         2.0       2.0
    """
    names = list(dict.fromkeys(row.method for row in rows))
    width = max(map(len, ("method", *names)))
    lines = [f"{'method':<{width}}   Dice  worst  s per case  s to fit"]
    for name in names:
        own = [row for row in rows if row.method == name]
        dice = [row.dice for row in own]
        seconds = sum(row.seconds for row in own) / len(own)
        fit = sum(row.fit_seconds for row in own) / len(own)
        lines.append(
            f"{name:<{width}}  {sum(dice) / len(dice):.3f}  {min(dice):.3f}  {seconds:>10.1f}  {fit:>8.1f}"
        )
    return "\n".join(lines)
