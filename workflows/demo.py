"""``atlaseg demo``: the complete workflow on synthetic scans."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from atlaseg.pipeline.schema import Count, Positive, Seed

__all__ = ["Demo"]

#: Smaller patches than the plan would choose, for more steps in the few minutes of a demo, and a livelier curve.
OVERRIDE = ("patch_size=[48,48,48]", "training.validate_every=2")


@dataclass(frozen=True)
class Demo:
    """Make synthetic brain scans, check them, plan, train, segment the held-out scans and evaluate them.

    Needs no data, no internet access and no GPU; takes about six minutes on two cores. The command of each step
    is printed. Run the same command again to resume after an interruption.
    """

    positional: ClassVar[tuple[str, ...]] = ("out",)

    out: Path = Path("atlaseg-demo")
    """Folder for all files of the demo."""
    subjects: Count = 12
    """Number of labelled scans; a quarter of them is held out."""
    minutes: Positive = 3.0
    """Training time."""
    method: str | None = None
    """Network to train; by default the one that `atlaseg train` takes."""
    seed: Seed = 0
    """Random seed."""

    def run(self) -> int:
        """Run all steps; returns the exit code of the first that fails, 0 otherwise."""
        from atlaseg.workflows.check import Check
        from atlaseg.workflows.phantom import Phantom
        from atlaseg.workflows.train import Train

        data, run = self.out / "data", self.out / "run"
        if not (data / "dataset.json").is_file():
            say(f"phantom {data} --subjects {self.subjects} --seed {self.seed}")
            Phantom(data, subjects=self.subjects, seed=self.seed).run()
        say(f"check {data}")
        if code := Check(data).run():
            return code
        named = "" if self.method is None else f" --method {self.method}"
        say(
            f"train {data} --out {run}{named} --folds 4 --minutes {self.minutes:g} "
            f"--seed {self.seed} --override {' '.join(OVERRIDE)}"
        )
        Train.of(
            data,
            run,
            method=self.method,
            folds=4,
            minutes=self.minutes,
            seed=self.seed,
            override=OVERRIDE,
        ).run()
        return self._score(data, run)

    def _score(self, data: Path, run: Path) -> int:
        """Segment and evaluate the held-out subjects."""
        from atlaseg.workflows.evaluate import Evaluate
        from atlaseg.workflows.segment import Segment

        labels, table = self.out / "labels", self.out / "scores.csv"
        shutil.rmtree(labels, ignore_errors=True)
        say(f"segment {run} --validation --out {labels}")
        if code := Segment((run,), labels, validation=True).run():
            return code
        say(f"evaluate {labels} {data / 'labelsTr'} --only-predicted --out {table}")
        code = Evaluate(labels, data / "labelsTr", out=table, only_predicted=True).run()
        print(f"\nLook at {run / 'overlay.png'}, {run / 'curves.png'} and {table.with_suffix('.png')}.")
        print("For your own scans use the same commands: see the README.")
        return code


def say(command: str) -> None:
    """Print the command that does the next step."""
    print(f"\n$ atlaseg {command}", flush=True)
