"""Averages of networks and mirrored copies within a window."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from atlaseg.pipeline.errors import GeometryError, OptionError
from atlaseg.pipeline.inference.window_predictor import WindowPredictor

CPU = torch.device("cpu")


def network(seed):
    torch.manual_seed(seed)
    return torch.nn.Conv3d(1, 3, 3, padding=1)


@pytest.fixture
def windows():
    return torch.randn(2, 1, 6, 5, 4, generator=torch.Generator().manual_seed(1))


def test_one_network_gives_its_logits(windows):
    one = network(0)
    assert torch.equal(WindowPredictor([one], 3, (), "fp32", CPU)(windows), one(windows))


def test_equal_networks_say_what_one_says(windows):
    one = network(0)
    three = WindowPredictor([one] * 3, 3, (), "fp32", CPU)
    assert three.members == 3
    torch.testing.assert_close(three(windows), torch.log_softmax(one(windows), 1))


def test_two_axes_are_mirrored_in_all_combinations(windows):
    one = network(0)
    predictor = WindowPredictor([one], 3, (2, 0), "fp32", CPU)
    expected = [torch.softmax(one(windows.flip(f)), 1).flip(f) for f in [(), (2,), (4,), (2, 4)]]
    assert predictor.members == 4
    torch.testing.assert_close(predictor(windows).exp(), torch.stack(expected).mean(0))


def test_a_class_of_zero_probability_stays_finite(windows):
    class Certain(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x * 0 + 1000, x * 0, x * 0], dim=1)

    assert torch.isfinite(WindowPredictor([Certain()], 3, (0,), "fp32", CPU)(windows)).all()


def test_modes_are_restored_after_an_error():
    one = torch.nn.Sequential(network(0), torch.nn.Dropout().eval()).train()
    one[1].eval()
    predictor = WindowPredictor([one], 3, (), "fp32", CPU)
    with suppress(RuntimeError), predictor.evaluating():
        assert not one[0].training
        raise RuntimeError
    assert one.training
    assert one[0].training
    assert not one[1].training


@pytest.mark.parametrize(
    ("networks", "axes", "precision", "message"),
    [
        ([], (), "fp32", "at least one network"),
        ([network(0)], (3,), "fp32", "mirror axes"),
        ([network(0)], (-1,), "fp32", "mirror axes"),
        ([network(0)], (), "fp8", "precision"),
    ],
)
def test_wrong_options_are_named(networks, axes, precision, message):
    with pytest.raises(OptionError, match=message):
        WindowPredictor(networks, 3, axes, precision, CPU)


def test_other_number_of_classes_is_named(windows):
    with pytest.raises(GeometryError, match="must give"):
        WindowPredictor([network(0)], 4, (), "fp32", CPU)(windows)
