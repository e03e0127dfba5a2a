"""Shifted copies of a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from atlaseg.pipeline.inference.shifted import ShiftedNetwork, spread_shifts


def test_shifts_begin_with_none_and_fill_the_box():
    shifts = spread_shifts(512, (8, 8, 8))
    assert shifts[0] == (0, 0, 0)
    counts = np.histogramdd(np.array(shifts), bins=(2, 2, 2))[0]
    assert counts.sum() == 512
    assert counts.min() > 50  # 64 in each octant if it were perfect


def test_a_voxelwise_network_does_not_notice_the_shift():
    windows = torch.randn(2, 1, 16, 8, 24)
    network = nn.Conv3d(1, 3, 1)
    shifted = ShiftedNetwork(network, (5, 0, 3), (8, 8, 8))
    torch.testing.assert_close(shifted(windows), network(windows))


def test_the_network_sees_padded_windows_of_a_size_it_can_halve():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x

    windows = torch.arange(16.0).reshape(1, 1, 16, 1, 1).expand(1, 1, 16, 16, 16)
    out = ShiftedNetwork(Spy(), (3, 0, 1), (8, 8, 8))(windows)
    assert seen[0].shape == (1, 1, 24, 16, 24)
    # edge voxels are repeated: 3 before, 5 behind
    assert seen[0][0, 0, :, 0, 0].tolist() == [0.0] * 4 + list(map(float, range(1, 16))) + [15.0] * 5
    torch.testing.assert_close(out, windows)


@pytest.mark.parametrize("shift", [(4, 4, 4), (7, 1, 2)])
def test_pooling_is_done_at_the_shifted_place(shift):
    class Blocks(nn.Module):
        def forward(self, x):
            return nn.functional.interpolate(nn.functional.avg_pool3d(x, 8), scale_factor=8.0)

    windows = torch.randn(1, 1, 16, 16, 16)
    out = ShiftedNetwork(Blocks(), shift, (8, 8, 8))(windows)
    padded = np.pad(windows[0, 0].numpy(), [(s, 8 - s) for s in shift], mode="edge")
    blocks = padded.reshape(3, 8, 3, 8, 3, 8).mean((1, 3, 5)).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    expected = blocks[tuple(slice(s, s + 16) for s in shift)]
    np.testing.assert_allclose(out[0, 0].numpy(), expected, rtol=1e-5, atol=1e-6)
