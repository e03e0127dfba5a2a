"""Losses by hand in NumPy, and what each optimizer does with the parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.training.objective import LOSSES, build_loss, build_optimizer

LOGITS = np.random.default_rng(0).normal(size=(2, 3, 2, 3, 2))
LABELS = np.random.default_rng(1).integers(0, 3, (2, 1, 2, 3, 2))
SMOOTH = 1e-5


def chances() -> np.ndarray:
    exponents = np.exp(LOGITS)
    return exponents / exponents.sum(1, keepdims=True)


def onehot() -> np.ndarray:
    return (np.arange(3).reshape(1, 3, 1, 1, 1) == LABELS).astype(float)


def dice(first: int) -> float:
    """1 - Dice, per patch and channel from ``first`` on, averaged."""
    p, t = chances()[:, first:], onehot()[:, first:]
    axes = (2, 3, 4)
    return float(np.mean(1 - (2 * (p * t).sum(axes) + SMOOTH) / (p.sum(axes) + t.sum(axes) + SMOOTH)))


def expected(name: str) -> float:
    p, t = chances(), onehot()
    right = (p * t).sum(1)
    if name == "dice":
        return dice(1)
    if name == "dice-ce":
        return dice(1) + float(np.mean(-np.log(right)))
    return dice(1) + float(np.mean(-((1 - right) ** 2) * np.log(right)))


@pytest.mark.parametrize("name", LOSSES)
def test_value(name: str) -> None:
    loss = build_loss(name)(torch.tensor(LOGITS), torch.tensor(LABELS))
    assert float(loss) == pytest.approx(expected(name), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_logits_have_next_to_no_loss(name: str) -> None:
    logits = torch.tensor(onehot() * 200 - 100)
    assert float(build_loss(name)(logits, torch.tensor(LABELS))) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_finite_without_any_structure(name: str) -> None:
    logits = torch.tensor(LOGITS, requires_grad=True)
    build_loss(name)(logits, torch.zeros_like(torch.tensor(LABELS))).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True), nn.PReLU())


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_no_decay_on_biases_and_normalisation(name: str) -> None:
    made = network()
    decayed, spared = build_optimizer(made, name, 0.01, 0.1).param_groups
    assert [p.shape for p in decayed["params"]] == [made[0].weight.shape]
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    assert all(p.ndim == 1 for p in spared["params"])
    assert len(spared["params"]) == 4  # bias, scale, shift, slope


def test_decay_moves_the_weights_alone() -> None:
    made = network()
    before = {k: v.clone() for k, v in made.state_dict().items()}
    optimizer = build_optimizer(made, "adamw", 0.01, 0.1)
    for parameter in made.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = made.state_dict()
    assert torch.allclose(after["0.weight"], before["0.weight"] * (1 - 0.01 * 0.1))
    assert all(torch.equal(after[k], before[k]) for k in before if k != "0.weight")


def test_frozen_parameters_stay_out() -> None:
    made = network()
    made[0].weight.requires_grad_(False)
    groups = build_optimizer(made, "adamw", 0.01, 0.1).param_groups
    assert groups[0]["params"] == []


def test_unknown_names() -> None:
    with pytest.raises(OptionError, match="dice, dice-ce, dice-focal"):
        build_loss("jaccard")
    with pytest.raises(OptionError, match="adamw, sgd"):
        build_optimizer(network(), "lion", 0.1, 0.0)
