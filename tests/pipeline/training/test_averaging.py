"""The moving average of weights, against a plain recomputation."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from atlaseg.pipeline.training.averaging import WeightAverage


def train(network: nn.Linear, average: WeightAverage, steps: int, start: int = 0) -> list[torch.Tensor]:
    """Random steps; the weights after each."""
    weights = []

    def step(engine: Engine, _batch: object) -> None:
        generator = torch.Generator().manual_seed(engine.state.iteration)
        with torch.no_grad():
            network.weight += torch.randn(network.weight.shape, generator=generator)
        weights.append(network.weight.detach().clone())

    engine = Engine(step)
    average.attach(engine)
    engine.load_state_dict({"epoch": start, "epoch_length": 1, "max_epochs": start + steps})
    engine.run([0])
    return weights


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_plain_recomputation(decay: float) -> None:
    network = nn.Linear(3, 2, bias=False)
    average = WeightAverage(network, decay)
    weights = train(network, average, 30)
    expected = weights[0]  # the first update copies
    for n, weight in enumerate(weights[1:], start=2):
        kept = min(decay, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * weight
    assert torch.allclose(average.module.weight, expected, atol=1e-5)


def test_module_is_a_copy_that_the_network_does_not_move() -> None:
    network = nn.Linear(3, 2, bias=False)
    average = WeightAverage(network, 0.9)
    before = average.module.weight.detach().clone()
    with torch.no_grad():
        network.weight += 1
    assert torch.equal(average.module.weight, before)


def test_buffers_are_averaged_too() -> None:
    network = nn.BatchNorm1d(2)
    average = WeightAverage(network, 0.5)
    network.running_mean.fill_(1.0)
    average._update(type("E", (), {"state": type("S", (), {"iteration": 1})}))  # type: ignore[arg-type]
    assert torch.equal(average.module.running_mean, torch.ones(2))


def test_none_keeps_no_average() -> None:
    network = nn.Linear(3, 2)
    average = WeightAverage(network, None)
    assert average.module is network
    assert average.state_dict() == {}
    average.load_state_dict({})
    train(nn.Linear(3, 2, bias=False), average, 2)


def test_resumes_after_an_interruption() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2, bias=False)
    start = network.weight.detach().clone()
    whole = WeightAverage(network, 0.9)
    train(network, whole, 8)
    with torch.no_grad():
        network.weight.copy_(start)
    first = WeightAverage(network, 0.9)
    train(network, first, 3)
    second = WeightAverage(network, 0.9)
    second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})  # type: ignore[attr-defined]
    train(network, second, 5, start=3)
    assert torch.equal(second.module.weight, whole.module.weight)
