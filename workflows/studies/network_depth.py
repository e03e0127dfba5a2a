"""``atlaseg study depth``: how deep should a U-Net be? Context against precision, on simple shapes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from atlaseg.pipeline.schema import Count, Positive, Seed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DepthExperiment"]

Depth = Literal["context", "standard", "precision"]


@dataclass(frozen=True)
class DepthExperiment:
    """Train U-Nets with 4, 3 and 2 levels down on the same shapes, for the same time, and compare their IoU.

    More levels see more context; fewer keep places more precise and take more steps in the same time. What is
    there already is not done again.
    """

    positional: ClassVar[tuple[str, ...]] = ("out",)

    out: Path = Path("atlaseg-depth")
    """Folder for data, runs and the table."""
    kind: Literal["ellipsoids-and-boxes", "noisy-spheres"] = "ellipsoids-and-boxes"
    """Which shapes."""
    cases: Count = 20
    """Labelled cases to make; a quarter of them is held out."""
    minutes: Positive = 6.0
    """Training time of each network."""
    seed: Seed = 0
    """Random seed."""

    def run(self) -> int:
        """Train and score all depths, print the table and write it to OUT/depth.csv."""
        from atlaseg.workflows.phantom import Phantom
        from atlaseg.workflows.train import Train

        data = self.out / "data"
        if not (data / "dataset.json").is_file():
            Phantom(data, subjects=self.cases, seed=self.seed, kind=self.kind).run()
        for depth in get_args(Depth):
            run = self.out / depth
            Train.of(
                data, run, folds=4, minutes=self.minutes, depth=depth, seed=self.seed, tracking="none"
            ).run()
            self._score(depth)
        table = self._table()
        self._print(table)
        return 0

    def _score(self, depth: str) -> None:
        from atlaseg.workflows.evaluate import Evaluate
        from atlaseg.workflows.segment import Segment

        labels = self.out / f"labels-{depth}"
        shutil.rmtree(labels, ignore_errors=True)
        Segment((self.out / depth,), labels, validation=True).run()
        Evaluate(
            labels, self.out / "data" / "labelsTr", out=self.out / f"{depth}.csv", only_predicted=True
        ).run()

    def _table(self) -> pd.DataFrame:
        """One row per depth: levels, steps, and the mean IoU of each structure over the held-out cases."""
        import json

        import pandas as pd

        from atlaseg.pipeline.io.files import write_text
        from atlaseg.pipeline.networks.registry import depth_levels

        rows = []
        for depth in get_args(Depth):
            scores = pd.read_csv(self.out / f"{depth}.csv")
            history = json.loads((self.out / depth / "history.json").read_text(encoding="utf-8"))
            rows.append(
                {
                    "depth": depth,
                    "levels down": depth_levels(depth),
                    "steps": history[-1]["iteration"],
                    **{f"IoU {name}": part.mean() for name, part in scores.groupby("structure")["iou"]},
                    "IoU mean": scores["iou"].mean(),
                }
            )
        table = pd.DataFrame(rows)
        write_text(self.out / "depth.csv", table.to_csv(index=False))
        return table

    def _print(self, table: pd.DataFrame) -> None:
        from rich.console import Console
        from rich.table import Table

        shown = Table(title=f"{self.kind}: IoU after {self.minutes:g} minutes each")
        for column in table.columns:
            shown.add_column(str(column), justify="left" if column == "depth" else "right")
        for row in table.itertuples(index=False):
            shown.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row))
        Console().print(shown)
        print(f"Table: {self.out / 'depth.csv'}")
