"""What two trained runs are compared by."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from atlaseg.pipeline.training.checkpoint import read_torch_file


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_torch_file(run / "models" / "model.pt")


def same_weights(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def timeless(run: Path) -> list[dict[str, Any]]:
    """The history without its times."""
    rows = json.loads((run / "history.json").read_text())
    return [{k: v for k, v in row.items() if k not in ("seconds", "patches_per_second")} for row in rows]


def command(job: Any) -> list[str]:
    """The shell command of a job."""
    return [
        *(sys.executable, "-m", "atlaseg.workflows.cli", "train", str(job.dataset), "--out", str(job.out)),
        *(
            "--epochs",
            str(job.network.epochs),
            "--tracking",
            "none",
            "--device",
            "cpu",
            "--folds",
            str(job.folds),
        ),
        *("--override", *job.network.override),
    ]
