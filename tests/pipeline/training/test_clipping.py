"""Gradient clipping in MONAI's trainer."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from atlaseg.pipeline.training.clipping import GradientClipping


def step_length(norm: float | None) -> float:
    """How far plain gradient descent with rate 1 moves the weights in one step."""
    network = nn.Linear(4, 1)
    before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
    batch = {"image": torch.full((1, 4), 10.0), "label": torch.full((1, 1), 1000.0)}
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[batch],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=nn.MSELoss(),
        train_handlers=[GradientClipping(norm)],
        decollate=False,
    ).run()
    after = torch.cat([p.detach().flatten() for p in network.parameters()])
    return float((after - before).norm())


def test_limits_the_norm_over_all_parameters() -> None:
    assert step_length(0.5) == pytest.approx(0.5, rel=1e-3)


def test_leaves_a_small_gradient_alone() -> None:
    assert step_length(1e9) == pytest.approx(step_length(None), rel=0.1)
    assert step_length(None) > 1000
