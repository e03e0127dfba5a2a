"""``atlaseg study atlases``: Dice and time of registrations and fusion rules on the same scans."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from atlaseg.pipeline.errors import DatasetError, OptionError
from atlaseg.pipeline.schema import Count, Seed

if TYPE_CHECKING:
    from atlaseg.atlases.atlas import Atlas
    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.correction.correction import Correction
    from atlaseg.atlases.fusion.candidates import FusionRule
    from atlaseg.atlases.propagation.propagation import Propagation, PropagationOptions

__all__ = ["AtlasBenchmark", "Row", "parse_fusion", "parse_registration", "summary"]


#: What a fusion rule with a correction ends with.
CORRECTED = "+correction"


@dataclass(frozen=True)
class Row:
    """One scan labelled in one way.

    Args:
        registration: engine:transform[:linear start].
        fusion: name of the rule, or ``single`` for the mean over the atlases by themselves.
        case: name of the scan.
        dice: mean over the structures.
        left_out: number of atlases that quality control or an engine left out.
        registration_seconds: wall-clock, mean over the atlases.
        fusion_seconds: wall-clock.
    """

    registration: str
    fusion: str
    case: str
    dice: float
    left_out: int
    registration_seconds: float
    fusion_seconds: float


class _Corrections:
    """Learns a correction once for each registration, rule and set of atlases."""

    def __init__(self, work: Path, executor: Executor | None) -> None:
        self.work, self.executor = work, executor
        self._learnt: dict[tuple[str, str, tuple[str, ...]], Correction] = {}

    def of(self, way: str, text: str, options: PropagationOptions, atlases: AtlasSet) -> Correction:
        from atlaseg.atlases.correction.learn_correction import learn_correction

        key = (way, text, atlases.names)
        if key not in self._learnt:
            self._learnt[key] = learn_correction(
                atlases, options, parse_fusion(text), executor=self.executor, work=self.work
            )
        return self._learnt[key]


@dataclass(frozen=True)
class AtlasBenchmark:
    """Label scans whose labels are known by atlases, in several ways, and compare: atlaseg study atlases DATASET.

    By default each labelled case is labelled by all others (leave-one-out). With --first 10 --last 60 the first ten
    cases by name are the atlases and the last sixty the scans. Each registration is done once and serves all rules;
    finished ones are kept in OUT/registrations, so that the same command goes on after an interruption.
    """

    positional: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset: Path
    """Folder of labelled cases."""
    out: Path
    """Folder for scores.csv and the registrations."""
    registrations: tuple[str, ...] = ("torch:deformable",)
    """ENGINE:TRANSFORM, or ENGINE:TRANSFORM:START with the linear start auto, rigid or affine."""
    fusions: tuple[str, ...] = ()
    """Fusion rules, with options or without: RULE:patch_radius=2:search_radius=1; by default all. RULE+correction
    learns from the atlases what the rule gets wrong."""
    first: Count | None = None
    """Number of first cases by name to use as atlases, with --last."""
    last: Count | None = None
    """Number of last cases by name to segment, with --first."""
    quality_control: bool = True
    """Leave out atlases that did not arrive."""
    workers: Count = 1
    """Processes that register at the same time."""
    seed: Seed = 0
    """Of the registrations."""

    def _rules(self) -> tuple[str, ...]:
        from atlaseg.workflows.methods.atlases.atlas_family import ATLASES

        return self.fusions or ATLASES.names()

    def run(self) -> int:
        """Compare; returns 0.

        Raises:
            OptionError: there is no such engine, transform or rule, or --first and --last overlap.
            DatasetError: the data set cannot serve as atlases.
        """
        from atlaseg.atlases.atlas_set import AtlasSet
        from atlaseg.pipeline.system.worker_processes import worker_pool

        ways = {
            name: parse_registration(name, self.quality_control, self.seed) for name in self.registrations
        }
        for text in self._rules():
            parse_fusion(text)
        atlases = AtlasSet.read(self.dataset)
        tasks = self._tasks(atlases)
        rows: list[Row] = []
        with worker_pool(self.workers) if self.workers > 1 else nullcontext() as executor:
            corrections = _Corrections(self.out / "registrations", executor)
            for way, options in ways.items():
                for number, (target, others) in enumerate(tasks, start=1):
                    found = self._one(way, options, target, others, corrections)
                    rows += found
                    best = max(found, key=lambda row: row.dice)
                    print(
                        f"{way} [{number}/{len(tasks)}] {target.name}: {best.fusion} {best.dice:.4f}",
                        flush=True,
                    )
                    self._write(rows)
        print()
        print(summary(rows))
        return 0

    def _tasks(self, atlases: AtlasSet) -> list[tuple[Atlas, AtlasSet]]:
        """Scans to label, each with the atlases that may see it."""
        members = atlases.atlases
        if (self.first is None) != (self.last is None):
            raise OptionError(
                "--first and --last go together: the first cases are atlases, the last are labelled"
            )
        if self.first is None or self.last is None:
            if len(members) < 2:
                raise DatasetError(f"{self.dataset}: {len(members)} labelled case; leave-one-out needs 2")
            return [(atlas, atlases.without(atlas.name)) for atlas in members]
        if self.first < 1 or self.last < 1 or self.first + self.last > len(members):
            raise OptionError(
                f"--first {self.first} and --last {self.last}: {len(members)} labelled cases are there, choose fewer"
            )
        chosen = atlases.subset([atlas.name for atlas in members[: self.first]])
        return [(atlas, chosen) for atlas in members[-self.last :]]

    def _one(
        self,
        way: str,
        options: PropagationOptions,
        target: Atlas,
        atlases: AtlasSet,
        corrections: _Corrections,
    ) -> list[Row]:
        import numpy as np

        from atlaseg.atlases.propagation.propagation import propagate
        from atlaseg.pipeline.io.volume import read_header, read_label_map

        scan = target.channels(), read_header(target.images[0]).affine
        found = propagate(atlases, scan, options, executor=corrections.executor, work=corrections.work)
        truth = atlases.labels.to_indices(read_label_map(target.label))
        seconds = float(np.mean([carried.seconds for carried in found.carried]))
        out = len(found.left_out) + len(found.failed)
        K = len(atlases.labels)
        single = float(np.mean([mean_dice(carried.labels, truth, K) for carried in found.carried]))
        rows = [Row(way, "single", target.name, single, out, seconds, 0.0)]
        for text in self._rules():
            correction = corrections.of(way, text, options, atlases) if text.endswith(CORRECTED) else None
            labels, took = _fused(parse_fusion(text), found, correction)
            rows.append(Row(way, text, target.name, mean_dice(labels, truth, K), out, seconds, took))
        return rows

    def _write(self, rows: list[Row]) -> None:
        from dataclasses import asdict

        import pandas as pd

        from atlaseg.pipeline.io.files import write_text

        write_text(self.out / "scores.csv", pd.DataFrame([asdict(row) for row in rows]).to_csv(index=False))


def _fused(rule: Any, found: Propagation, correction: Correction | None) -> tuple[Any, float]:
    begin = time.perf_counter()
    fused = rule.fuse(found.candidates(), probabilities=correction is not None)
    labels = fused.labels
    if correction is not None:
        labels = correction.apply(fused.probabilities, found.target).argmax(axis=0)
    return labels, time.perf_counter() - begin


def mean_dice(labels: Any, truth: Any, K: int) -> float:
    """Mean Dice over the structures of two maps of channel indices, the background left out."""
    from atlaseg.pipeline.evaluation.confusion_matrix import confusion_of_indices, dice_of_labels

    return float(dice_of_labels(confusion_of_indices(labels, truth, K))[1:].mean())


def parse_fusion(text: str) -> FusionRule:
    """Rule of ``RULE`` or ``RULE:option=value:option=value``, either with ``+correction`` at its end.

    Raises:
        OptionError: there is no such rule, or it has no such option.
    """
    from atlaseg.atlases.fusion.registry import make_rule, read_options

    name, *words = text.removesuffix(CORRECTED).split(":")
    return make_rule(name, **read_options(name, words))


def parse_registration(text: str, quality_control: bool = True, seed: int = 0) -> PropagationOptions:
    """Options of ``ENGINE:TRANSFORM`` or ``ENGINE:TRANSFORM:START``, checked before any work is done.

    Raises:
        OptionError: it has other parts, or the engine lacks the transform.
    """
    from atlaseg.atlases.propagation.propagation import PropagationOptions

    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise OptionError(f"registration {text!r}: expected ENGINE:TRANSFORM or ENGINE:TRANSFORM:START")
    options = PropagationOptions(
        engine=parts[0],
        transform=parts[1],
        linear=parts[2] if len(parts) == 3 else "auto",
        quality_control=quality_control,
        seed=seed,
    )
    options.steps()
    return options


def summary(rows: list[Row]) -> str:
    """Table of the ways: mean and worst Dice over the cases, and median seconds."""
    wide = 2 + max(16, *(len(row.fusion) for row in rows))
    lines = [
        f"{'registration':<28}{'fusion':<{wide}}{'cases':>6}{'mean Dice':>11}{'worst':>8}{'left out':>10}"
        f"{'s/atlas':>9}{'s/fusion':>10}"
    ]
    for way, rule in dict.fromkeys((row.registration, row.fusion) for row in rows):
        these = [row for row in rows if (row.registration, row.fusion) == (way, rule)]
        dice = [row.dice for row in these]
        lines.append(
            f"{way:<28}{rule:<{wide}}{len(these):>6}{statistics.fmean(dice):>11.4f}{min(dice):>8.3f}"
            f"{sum(row.left_out for row in these):>10}"
            f"{statistics.median(row.registration_seconds for row in these):>9.2f}"
            f"{statistics.median(row.fusion_seconds for row in these):>10.2f}"
        )
    return "\n".join(lines)
