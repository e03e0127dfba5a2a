"""The fully convolutional network against what the paper says of it."""

import pytest
import torch
from torch.nn import functional

from atlaseg.pipeline.networks.fcn import FCN


def test_the_output_is_the_sum_of_enlarged_score_maps():
    torch.manual_seed(0)
    net = FCN(2, 1, 2, channels=(4, 6, 8), strides=((2, 2), (2, 2)), heads=2).eval()
    image = torch.randn(1, 1, 16, 12)
    fine = net.levels[1](net.levels[0](image))
    coarse = net.scores[1](net.levels[2](fine))
    first = functional.interpolate(coarse, size=(8, 6), mode="bilinear") + net.scores[0](fine)
    assert torch.allclose(
        net(image), functional.interpolate(first, size=(16, 12), mode="bilinear"), atol=1e-6
    )


def test_nothing_but_the_scores_reaches_the_output():
    net = FCN(3, 1, 2, channels=(4, 6, 8), strides=((2, 2, 2), (2, 2, 2)), heads=2).eval()
    for score in net.scores:
        torch.nn.init.zeros_(score.weight)
        torch.nn.init.ones_(score.bias)
    assert torch.allclose(net(torch.randn(1, 1, 8, 8, 8)), torch.full((1, 2, 8, 8, 8), 2.0))


def test_sizes_need_not_be_multiples():
    net = FCN(3, 1, 2, channels=(4, 6), strides=((1, 2, 2),), heads=1)
    assert net(torch.zeros(2, 1, 7, 9, 10)).shape == (2, 2, 7, 9, 10)


@pytest.mark.parametrize(("channels", "heads"), [((4, 8), 1), ((4, 8, 8), 3), ((4, 8, 8), 0)])
def test_numbers_that_do_not_fit(channels, heads):
    with pytest.raises(ValueError, match=r"channels need|heads must"):
        FCN(2, 1, 2, channels=channels, strides=((2, 2), (2, 2)), heads=heads)
