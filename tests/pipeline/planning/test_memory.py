"""The memory estimate: exact where it can be, near measurements where it cannot."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.networks.registry import NETWORKS, adapted
from atlaseg.pipeline.planning.memory import (
    _kept_for_backward,
    estimate_training_memory,
    measure_training_memory,
    training_memory,
)
from atlaseg.pipeline.planning.plan import NetworkPlan, Plan, TrainingPlan


def plan(name: str = "unet", edge: int = 32, structures: int = 2, **training: Any) -> Plan:
    return Plan(
        dataset="made",
        channels=("MRI",),
        labels=LabelTable.from_values(range(1, structures + 1)),
        patch_size=(edge, edge, edge),
        network=adapted(NetworkPlan(name)),
        training=TrainingPlan(**training),
    )


def test_what_autograd_keeps_is_counted_once() -> None:
    """A convolution keeps its input, a ReLU its output, and the next convolution the same output."""
    network = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 2, 1))
    _, kept = _kept_for_backward(lambda: network(torch.zeros(2, 1, 4, 4, 4)), network)
    assert kept == 4 * 2 * 64 * (1 + 8)


def test_meta_and_cpu_keep_the_same() -> None:
    for device in ("cpu", "meta"):
        network = nn.Sequential(nn.Conv3d(1, 8, 3), nn.InstanceNorm3d(8), nn.PReLU()).to(device)
        scan = torch.empty(1, 1, 8, 8, 8, device=device)
        _, kept = _kept_for_backward(lambda n=network, x=scan: n(x), network)  # type: ignore[misc]
        # input of the convolution, input of the normalisation, input of the PReLU, a few statistics
        assert kept == pytest.approx(4 * (512 + 2 * 8 * 216), rel=0.02)


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_parts_scale_as_they_must(name: str) -> None:
    small, large = (training_memory(plan(name, edge)) for edge in (32, 64))
    assert large.parameters == small.parameters
    assert large.activations == pytest.approx(8 * small.activations, rel=0.02)
    assert large.loss == pytest.approx(8 * small.loss, rel=0.02)
    single = training_memory(plan(name, 32, batch_size=1))
    assert small.activations == pytest.approx(2 * single.activations, rel=0.02)
    half = training_memory(plan(name, 32, precision="bf16"))
    assert half.activations == pytest.approx(small.activations / 2, rel=0.02)
    assert half.loss == small.loss  # the loss is always computed in float32


def test_parameters_by_hand() -> None:
    """AdamW: weight, gradient, two moments of four bytes each."""
    from atlaseg.pipeline.networks.registry import build_network

    made = replace(plan(), training=replace(plan().training, ema=None))
    network = build_network(
        made.network, spatial_dims=3, in_channels=1, out_channels=3, patch_size=made.patch_size
    )
    count = sum(p.numel() for p in network.parameters())
    assert training_memory(made).parameters == 16 * count
    averaged = replace(made, training=replace(made.training, optimizer="sgd", ema=0.99))
    assert training_memory(averaged).parameters == 16 * count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "edge", "structures", "precision"),
    [
        ("unet", 80, 2, "fp32"),
        ("unet", 48, 37, "bf16"),
        ("dynunet", 48, 2, "fp32"),
        ("segresnet", 48, 2, "bf16"),
    ],
)
def test_estimate_is_near_the_measured_peak(name: str, edge: int, structures: int, precision: str) -> None:
    made = plan(name, edge, structures, precision=precision)
    measured = measure_training_memory(made, steps=2)
    assert 0.95 * measured <= estimate_training_memory(made) <= 1.4 * measured


@pytest.mark.gpu
def test_estimate_on_a_gpu_is_not_below_the_measured_peak() -> None:
    made = plan("dynunet", 96, precision="bf16")
    measured = measure_training_memory(made, device="cuda", steps=3)
    assert measured <= estimate_training_memory(made, "cuda") <= 2.5 * measured
