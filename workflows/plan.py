"""``atlaseg plan``: from a data set to a readable, editable ``plan.yaml``."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.schema import Count, Positive, Seed

if TYPE_CHECKING:
    from atlaseg.pipeline.planning.plan import Plan

__all__ = ["MakePlan", "gigabytes"]

_UNITS = {"": 1.0, "g": 1.0, "gb": 1.0, "m": 1e-3, "mb": 1e-3, "t": 1e3, "tb": 1e3}


@dataclass(frozen=True)
class MakePlan:
    """Plan patch size, network and training for a data set, and write the plan with the reason for each choice.

    Raises:
        AtlasegError: the data set cannot be read, or no plan meets the memory budget.
    """

    positional: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset: Path
    """Folder of the data set; the plan is made from its labelled scans."""

    out: Path = Path("plan.yaml")
    """File to write."""

    method: str | None = None
    """Network, as `atlaseg methods --kind network` lists them; by default the first."""

    depth: str | None = None
    """Depth of the network: context, standard or precision (4, 3 or 2 downsampling steps)."""

    memory: str = "8GB"
    """Memory budget of training, such as 8GB or 500MB: memory of the process on a CPU, of the card on a GPU."""

    device: str = "auto"
    """Device for training: cpu, cuda, or auto for cuda where available."""

    minutes: Positive | None = None
    """Wall-clock budget of training, instead of epochs."""

    epochs: Count | None = None
    """Number of epochs."""

    channels: tuple[str, ...] = ()
    """Names of the channels, such as CT or T1 T2, instead of those in the data set; CT is clipped and scaled, others
    are normalised to mean 0 and standard deviation 1."""

    override: tuple[str, ...] = ()
    """Values of the plan to override, such as training.learning_rate=0.01."""

    seed: Seed = 0
    """Random seed."""

    def run(self) -> int:
        """Write the plan and show it; returns the exit code."""
        from concurrent.futures import ThreadPoolExecutor

        from atlaseg.pipeline.datasets import read_dataset
        from atlaseg.pipeline.planning.plan import NetworkPlan
        from atlaseg.pipeline.planning.plan_file import save_plan
        from atlaseg.pipeline.planning.rules import plan_for
        from atlaseg.pipeline.system.hardware import choose_device
        from atlaseg.workflows.inputs.channels import with_user_channels

        memory_gb = gigabytes(self.memory)
        device = choose_device(self.device)
        dataset = with_user_channels(read_dataset(self.dataset), self.channels)
        with ThreadPoolExecutor() as executor:
            plan = plan_for(
                dataset,
                method=self.method or NetworkPlan.name,
                memory_gb=memory_gb,
                device=device,
                minutes=self.minutes,
                epochs=self.epochs,
                depth=self.depth,
                seed=self.seed,
                overrides=self.override,
                executor=executor,
            )
        print(f"Channels: {', '.join(plan.channels)}, {plan.reasons['channels']}", file=sys.stderr)
        save_plan(plan, self.out)
        _show(plan, self.out)
        return 0


def gigabytes(text: str) -> float:
    """Size in GB (1e9 bytes) from texts such as ``8GB``, ``500MB`` or ``8``.

    Raises:
        OptionError: it is not a size greater than 0.

    >>> gigabytes("8GB"), gigabytes("500 mb"), gigabytes("1.5")
    (8.0, 0.5, 1.5)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in _UNITS or float(found[1]) == 0:
        raise OptionError(f"memory {text!r}: write a size such as 8GB, 500MB or 8 (for GB)")
    return float(found[1]) * _UNITS[found[2]]


def _show(plan: Plan, out: Path) -> None:
    """Print the most important choices with their reasons as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Plan for {plan.dataset}", show_lines=False)
    for heading in ("choice", "value", "why"):
        table.add_column(heading, overflow="fold")
    for key, value in _rows(plan):
        table.add_row(key, value, plan.reasons.get(key, ""))
    console = Console()
    console.print(table, markup=False)
    console.print(f"{out}: every value with its reason; edit it, or use --override", soft_wrap=True)


def _rows(plan: Plan) -> list[tuple[str, str]]:
    """Keys of the plan and their values as text."""
    training, augmentation = plan.training, plan.augmentation
    normalisation = plan.normalisation.kind + (", non-zero voxels" if plan.normalisation.nonzero else "")
    crop = "no" if plan.foreground_threshold is None else f"to voxels above {plan.foreground_threshold:g}"
    rows = {
        "channels": ", ".join(plan.channels),
        "spacing": " x ".join(f"{s:g}" for s in plan.spacing) + " mm",
        "normalisation": normalisation,
        "foreground_threshold": crop,
        "patch_size": " x ".join(str(n) for n in plan.patch_size),
        "network.name": plan.network.name,
        "network.depth": plan.network.depth,
        "network.strides": ", ".join("x".join(str(f) for f in s) for s in plan.network.strides),
        "training.batch_size": str(training.batch_size),
        "training.precision": training.precision,
        "training.epochs": str(training.epochs),
        "training.minutes": str(training.minutes),
        "training.foreground_fraction": f"{training.foreground_fraction:g}",
        "training.cache": training.cache,
        "augmentation.elastic_mm": f"{augmentation.elastic_mm:g} mm",
        "augmentation.flip_axes": ", ".join(str(a) for a in augmentation.flip_axes) or "none",
        "memory_gb": f"{plan.memory_gb:g} GB",
    }
    unset = {"training.epochs", "training.minutes"}
    return [(key, value) for key, value in rows.items() if not (key in unset and value == "None")]
