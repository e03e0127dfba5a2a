"""Options of training and segmentation with networks, also in combination with atlases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from atlaseg.pipeline.schema import Count, Positive

__all__ = ["NetworkLabelling", "NetworkTraining"]


@dataclass(frozen=True)
class NetworkTraining:
    """For networks, also with atlases."""

    #: Options that do not change the result: a run goes on with others, and a benchmark decides them.
    free: ClassVar[tuple[str, ...]] = ("device", "tracking")

    epochs: Count | None = None
    """Training budget in epochs (not with --minutes or --plan)."""
    minutes: Positive | None = None
    """Training budget in minutes; the learning rate follows it (not with --epochs or --plan)."""
    plan: Path | None = None
    """Plan to follow, as `atlaseg plan` writes it; by default it is made from the data."""
    override: tuple[str, ...] = ()
    """Values of the plan to override, such as training.learning_rate=0.01 patch_size=[64,64,64]."""
    depth: Literal["context", "standard", "precision"] | None = None
    """Depth of the network: context 4, standard 3, precision 2 downsampling steps (not with --plan)."""
    memory: str | None = None
    """Memory budget of training, such as 500MB; by default 8GB (not with --plan)."""
    device: str = "auto"
    """Device: auto (a GPU where available), cpu or cuda."""
    tracking: Literal["mlflow", "none"] = "mlflow"
    """Experiment tracking; mlflow writes a local sqlite file into OUT/mlflow, nothing leaves the machine."""


@dataclass(frozen=True)
class NetworkLabelling:
    """For networks, also with atlases."""

    #: Options that a benchmark decides, the same for all methods.
    benchmark_decides: ClassVar[tuple[str, ...]] = ("device",)

    tta: bool = False
    """Test-time augmentation: average over mirrored and shifted copies; 8 times slower."""
    device: str = "auto"
    """Device: auto (a GPU where available), cpu or cuda."""
