"""Mixed precision on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.training.autocast import AutocastInferer, autocast

CPU = torch.device("cpu")


class Witness(nn.Module):
    """A convolution that remembers what came in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 2, 3, padding=1)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> Any:
        out = self.convolution(x)
        self.seen += [x, out]
        return out


@pytest.mark.parametrize(("precision", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_arithmetic_inside_float32_outside(precision: str, kind: torch.dtype) -> None:
    network = Witness()
    logits = AutocastInferer(precision)(MetaTensor(torch.randn(1, 1, 8, 8, 8)), network)
    given, made = network.seen
    assert made.dtype == kind
    assert logits.dtype == torch.float32
    assert type(given) is torch.Tensor
    assert given.is_contiguous(memory_format=torch.channels_last_3d)


def test_fp32_is_exactly_the_network() -> None:
    network = Witness()
    image = torch.randn(1, 1, 8, 8, 8)
    assert torch.allclose(AutocastInferer("fp32")(image, network), network(image), atol=1e-6)


def test_gradients_flow_through_bf16() -> None:
    network = Witness()
    AutocastInferer("bf16")(torch.randn(1, 1, 8, 8, 8), network).sum().backward()
    gradient = network.convolution.weight.grad
    assert gradient is not None
    assert gradient.dtype == torch.float32


def test_around_a_sliding_window() -> None:
    network = Witness().eval()
    image = torch.randn(1, 1, 12, 12, 12)
    inferer = AutocastInferer("fp32", SlidingWindowInferer((8, 8, 8), overlap=0.5, mode="gaussian"))
    with torch.no_grad():
        assert inferer(image, network).shape == (1, 2, 12, 12, 12)


def test_refusals() -> None:
    with pytest.raises(OptionError, match="bf16, fp16, fp32"):
        AutocastInferer("int8")
    with pytest.raises(OptionError, match="needs a GPU"):
        autocast(CPU, "fp16")
