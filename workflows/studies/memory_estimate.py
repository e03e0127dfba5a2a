"""Compare the memory estimate of plans with measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atlaseg.pipeline.schema import Count

if TYPE_CHECKING:
    from atlaseg.pipeline.planning.plan import Plan

__all__ = ["MemoryBenchmark", "benchmark_plans"]


@dataclass(frozen=True)
class MemoryBenchmark:
    """Estimate the memory of training for some plans, train each for a few steps, and compare.

    Each measurement is the peak of a fresh process that trains on noise: resident memory on a CPU, memory
    held by torch on a GPU (to which the estimate adds the context's, about 0.7 GB).
    """

    plan: tuple[Path, ...] = ()
    """Plans to measure; by default a selection of networks, patches and numbers of structures."""

    device: str = "cpu"
    """Device for training: cpu or cuda."""

    threads: Count = 1
    """Number of torch threads on a CPU."""

    steps: Count = 3
    """Training steps of each measurement."""

    def run(self) -> int:
        """Print the table; returns the exit code."""
        from rich.console import Console
        from rich.table import Table

        from atlaseg.pipeline.planning.memory import estimate_training_memory, measure_training_memory
        from atlaseg.pipeline.planning.plan_file import load_plan
        from atlaseg.pipeline.system.hardware import choose_device

        device = choose_device(self.device)
        plans = {str(p): load_plan(p) for p in self.plan} or benchmark_plans()
        table = Table(title=f"Peak memory of training on {device}")
        for heading in ("plan", "estimated GB", "measured GB", "ratio"):
            table.add_column(heading, justify="left" if heading == "plan" else "right")
        for name, plan in plans.items():
            estimated = estimate_training_memory(plan, device) / 1e9
            measured = (
                measure_training_memory(plan, device=device, steps=self.steps, threads=self.threads) / 1e9
            )
            table.add_row(name, f"{estimated:.2f}", f"{measured:.2f}", f"{estimated / measured:.2f}")
        Console().print(table)
        return 0


def benchmark_plans() -> dict[str, Plan]:
    """Plans that differ in what memory depends on: network, patch, structures and precision."""
    from typing import Any, Literal

    from atlaseg.pipeline.case import LabelTable
    from atlaseg.pipeline.networks.registry import NETWORKS, adapted
    from atlaseg.pipeline.planning.plan import NetworkPlan, Plan, TrainingPlan
    from atlaseg.pipeline.system.hardware import bf16_is_fast

    def make(name: str, edge: int, structures: int, precision: Literal["bf16", "fp32"]) -> tuple[str, Plan]:
        values: dict[str, Any] = {"batch_size": 2, "precision": precision}
        plan = Plan(
            dataset="benchmark",
            channels=("MRI",),
            labels=LabelTable.from_values(range(1, structures + 1)),
            patch_size=(edge, edge, edge),
            network=adapted(NetworkPlan(name)),
            training=TrainingPlan(**values),
        )
        return f"{name} {edge}x{edge}x{edge}, {structures} structures, {precision}", plan

    best: Literal["bf16", "fp32"] = "bf16" if bf16_is_fast("cpu") else "fp32"
    usual = NetworkPlan.name
    selection = [(usual, 40, 2), (usual, 96, 2), (usual, 64, 37)]
    selection += [(name, 64, 2) for name in NETWORKS.names() if name != usual]
    return dict([make(*entry, best) for entry in selection] + [make(usual, 96, 2, "fp32")])
