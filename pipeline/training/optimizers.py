"""The table of optimizers, each torch's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlaseg.pipeline.registry import Registry, Row

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["OPTIMIZERS", "OptimizerRow", "build_optimizer"]


@dataclass(frozen=True)
class OptimizerRow(Row):
    """An optimizer; ``target`` takes groups of parameters and the highest learning rate.

    Args:
        states: numbers that it keeps for each weight.
    """

    states: int


#: Names that ``TrainingPlan.optimizer`` may have.
OPTIMIZERS: Registry[OptimizerRow] = Registry(
    "optimizer",
    OptimizerRow,
    (
        OptimizerRow(
            "adamw",
            "Adam with decoupled weight decay; the default",
            "atlaseg.pipeline.training.optimizers:adamw",
            2,
            source="Loshchilov and Hutter, ICLR 2019, https://arxiv.org/abs/1711.05101",
        ),
        OptimizerRow(
            "sgd",
            "Nesterov momentum 0.99, as nnU-Net",
            "atlaseg.pipeline.training.optimizers:sgd",
            1,
            source="Isensee et al., Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z",
        ),
    ),
    group="atlaseg.optimizers",
)


def adamw(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """Torch's AdamW; arguments as of :class:`OptimizerRow`."""
    import torch

    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def sgd(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """Torch's SGD; arguments as of :class:`OptimizerRow`."""
    import torch

    return torch.optim.SGD(groups, lr=learning_rate, momentum=0.99, nesterov=True)


def build_optimizer(
    network: nn.Module, name: str, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Optimizer of all parameters; weight decay spares biases and normalisation, which have one dimension.

    Args:
        network: to be trained.
        name: one of :data:`OPTIMIZERS`.
        learning_rate: the highest; a schedule lowers it.
        weight_decay: per step, relative to the learning rate.

    Raises:
        OptionError: no such optimizer.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer = OPTIMIZERS.load(name)(groups, learning_rate)
    return optimizer
