"""Losses by hand in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.training.losses.registry import LOSSES, build_loss

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


def test_unknown_name() -> None:
    with pytest.raises(OptionError, match="no loss 'jaccard'; choose one of dice, dice-ce, dice-focal"):
        build_loss("jaccard")


MODULE = """
import torch
from torch import nn
from atlaseg.pipeline.training.losses.registry import LossRow

ROW = LossRow("brier", "squared error of the probabilities", "my_loss:Brier")

class Brier(nn.Module):
    def forward(self, logits, labels):
        truth = nn.functional.one_hot(labels[:, 0], logits.shape[1]).movedim(-1, 1)
        return (logits.softmax(1) - truth).square().sum(1).mean()
"""


def test_a_loss_of_an_installed_package(installed) -> None:
    installed.add("my-losses", {"atlaseg.losses": {"brier": "my_loss:ROW"}}, my_loss=MODULE)
    assert LOSSES.names()[-1] == "brier"
    loss = build_loss("brier")(torch.tensor(LOGITS), torch.tensor(LABELS))
    assert float(loss) == pytest.approx(((chances() - onehot()) ** 2).sum(1).mean())
