"""Every network of the table, in 2-D and 3-D, also on anisotropic grids."""

import json

import pytest
import torch
import yaml

from atlaseg.pipeline.errors import OptionError, PlanError
from atlaseg.pipeline.networks.registry import (
    DEPTHS,
    NETWORKS,
    adapted,
    build_network,
    depth_levels,
    divisor,
    network_config,
)
from atlaseg.pipeline.planning.plan import NetworkPlan

ISOTROPIC = ((2, 2, 2), (2, 2, 2))
ANISOTROPIC = ((1, 2, 2), (2, 2, 2))


def make(name, dims=3, strides=ISOTROPIC, channels=(8, 16, 32), classes=3, inputs=2, **more):
    network = NetworkPlan(name, channels=channels, strides=strides, **more)
    patch = (8, 16, 12)[:dims]
    return build_network(
        network, spatial_dims=dims, in_channels=inputs, out_channels=classes, patch_size=patch
    ), torch.randn(2, inputs, *patch, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_have_the_shape_of_a_patch_that_is_no_cube(name, dims):
    network, image = make(name, dims)
    assert network(image).shape == (2, 3, *image.shape[2:])


@pytest.mark.parametrize("name", [row.name for row in NETWORKS.rows() if not row.halves])
@pytest.mark.parametrize("dims", [2, 3])
def test_anisotropic_strides(name, dims):
    network, image = make(name, dims, strides=ANISOTROPIC)
    assert network(image).shape == (2, 3, *image.shape[2:])


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_reaches_every_parameter(name):
    network, image = make(name)
    network(image).square().mean().backward()
    unreached = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert unreached == []
    weights = [(n, p) for n, p in network.named_parameters() if p.ndim > 1]
    assert [n for n, p in weights if not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_makes_training_random_and_leaves_inference_alone(name):
    network, image = make(name, dropout=0.5)
    network.train()
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_go_into_a_second_network(name, tmp_path):
    first, image = make(name)
    second, _ = make(name)
    torch.save(first.state_dict(), tmp_path / "model.pt")
    second.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(first.eval()(image), second.eval()(image))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_config_is_plain_data_and_survives_yaml_and_json(name, dims):
    config = network_config(
        NetworkPlan(name), spatial_dims=dims, in_channels=1, out_channels=2, patch_size=(16,) * dims
    )
    assert yaml.safe_load(yaml.safe_dump(config)) == config
    assert json.loads(json.dumps(config)) == config
    assert config["_target_"].startswith(("monai.networks.nets.", "atlaseg.pipeline.networks."))
    assert not any(text in repr(config) for text in "$@%")


# Counted by hand for a U-Net without residual units: a convolution of n to m channels with kernel k has
# m (n k**3 + 1) parameters.
def test_parameter_count_of_a_small_unet():
    network, _ = make("unet", channels=(8, 16, 32), residual_units=0, inputs=1)

    def conv(n, m):
        return m * (n * 27 + 1)

    down = conv(1, 8) + conv(8, 16) + conv(16, 32)
    up = conv(48, 8) + conv(16, 3)
    assert sum(p.numel() for p in network.parameters()) == down + up


# Known sizes of the default plan, so that a new version of MONAI that changes a network is noticed.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("unet", 4_741_721),
        ("attention-unet", 5_860_767),
        ("fcn", 3_514_473),
        ("dynunet", 5_600_963),
        ("segresnet", 18_796_035),
    ],
)
def test_parameter_count_of_the_default_plan(name, parameters):
    network = build_network(
        NetworkPlan(name), spatial_dims=3, in_channels=1, out_channels=3, patch_size=(40, 56, 40)
    )
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_dynunet_keeps_thick_slices_apart_until_the_axes_are_alike():
    config = network_config(
        NetworkPlan("dynunet", strides=((1, 2, 2), (1, 2, 2), (2, 2, 2))),
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        patch_size=(8, 32, 32),
    )
    assert config["kernel_size"] == [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3]]
    assert config["strides"] == [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]]
    assert config["upsample_kernel_size"] == config["strides"][1:]


def test_an_axis_that_is_pooled_at_first_and_then_no_more_keeps_its_kernels():
    config = network_config(
        NetworkPlan("dynunet", strides=((2, 2, 2), (2, 2, 2), (1, 2, 2))),
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        patch_size=(8, 32, 32),
    )
    assert config["kernel_size"] == [[3, 3, 3]] * 4


def test_divisor_is_the_product_of_the_strides():
    assert divisor(NetworkPlan(channels=(8, 16, 32), strides=ANISOTROPIC)) == (2, 4, 4)
    assert divisor(NetworkPlan("segresnet", channels=(8, 16, 32), strides=ANISOTROPIC)) == (4, 4, 4)


def test_segresnet_refuses_sizes_it_cannot_have_and_takes_the_adapted_ones():
    asked = NetworkPlan("segresnet", channels=(8, 16, 20), strides=ANISOTROPIC)
    sizes = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "patch_size": (8, 8, 8)}
    with pytest.raises(PlanError, match="halves every axis"):
        build_network(asked, **sizes)
    assert build_network(adapted(asked), **sizes)(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)


@pytest.mark.parametrize("name", DEPTHS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_depth(network, name):
    levels = depth_levels(name)
    plan = NetworkPlan(
        network, name, channels=tuple(4 * 2**i for i in range(levels + 1)), strides=((2, 2, 2),) * levels
    )
    built = build_network(plan, spatial_dims=2, in_channels=1, out_channels=2, patch_size=(32, 16))
    assert built(torch.zeros(1, 1, 32, 16)).shape == (1, 2, 32, 16)


def test_unknown_names_list_the_known():
    with pytest.raises(OptionError, match="unet, attention-unet, fcn, dynunet, segresnet"):
        divisor(NetworkPlan("resnet"))
    with pytest.raises(OptionError, match="context, standard, precision"):
        depth_levels("deep")


@pytest.mark.parametrize(
    ("patch", "dims", "message"),
    [
        ((16, 16, 12), 3, r"multiples of \[8, 8, 8\]"),
        ((16, 16), 3, r"multiples of \[8, 8, 8\]"),
        ((8, 8, 8), 3, "single voxel"),
        ((0, 16), 2, "multiples"),
    ],
)
def test_patches_that_do_not_fit(patch, dims, message):
    with pytest.raises(PlanError, match=message):
        network_config(NetworkPlan(), spatial_dims=dims, in_channels=1, out_channels=2, patch_size=patch)


def test_dimensions_other_than_two_and_three():
    with pytest.raises(OptionError, match="spatial_dims must be 2 or 3"):
        network_config(NetworkPlan(), spatial_dims=1, in_channels=1, out_channels=2, patch_size=(16,))


def test_dynunet_needs_two_levels():
    with pytest.raises(PlanError, match="at least 2 levels"):
        make("dynunet", channels=(8, 16), strides=((2, 2, 2),))


MODULE = """
from atlaseg.pipeline.networks.registry import NetworkRow, NetworkSize

ROW = NetworkRow("one-layer", "a single convolution", "my_network:component")

def component(size: NetworkSize) -> dict:
    return {
        "_target_": "monai.networks.blocks.Convolution",
        "spatial_dims": size.spatial_dims,
        "in_channels": size.in_channels,
        "out_channels": size.out_channels,
        "conv_only": True,
    }
"""


@pytest.mark.parametrize("group", ["atlaseg.networks", "atlaseg.methods"])
def test_a_network_of_an_installed_package(installed, group):
    installed.add("my-networks", {group: {"one-layer": "my_network:ROW"}}, my_network=MODULE)
    assert NETWORKS.names()[-1] == "one-layer"
    network, image = make("one-layer")
    assert network(image).shape == (2, 3, *image.shape[2:])
    assert sum(p.numel() for p in network.parameters()) == 3 * (2 * 27 + 1)
