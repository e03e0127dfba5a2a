"""What each optimizer does with the parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.training.optimizers import OPTIMIZERS, build_optimizer


def network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True), nn.PReLU())


@pytest.mark.parametrize("name", OPTIMIZERS)
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


def test_unknown_name() -> None:
    with pytest.raises(OptionError, match="adamw, sgd"):
        build_optimizer(network(), "lion", 0.1, 0.0)


def test_states_are_what_the_estimate_of_memory_counts() -> None:
    """Numbers that each optimizer keeps for a weight, after one step."""
    for row in OPTIMIZERS.rows():
        made = network()
        optimizer = build_optimizer(made, row.name, 0.01, 0.0)
        for parameter in made.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        kept = optimizer.state[made[0].weight]
        assert (
            sum(torch.is_tensor(s) and s.shape == made[0].weight.shape for s in kept.values()) == row.states
        )
