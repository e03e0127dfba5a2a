"""What a run says of the packages that it needs, and what is said where they are not there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from atlaseg.pipeline.bundle import load_bundle_plan, render_bundle
from atlaseg.pipeline.bundle_packages import package_entries
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import PackageError
from atlaseg.pipeline.planning.plan import NetworkPlan, Plan

NETWORK = """
from atlaseg.pipeline.networks.registry import NetworkRow, NetworkSize

ROW = NetworkRow("one-layer", "a single convolution", "my_network:component")

def component(size: NetworkSize) -> dict:
    return {"_target_": "monai.networks.blocks.Convolution", **size.ports(), "conv_only": True}
"""
LOSS = """
from atlaseg.pipeline.training.losses.registry import LossRow
ROW = LossRow("l2", "squared error", "torch.nn:MSELoss")
"""


def plan() -> Plan:
    made = Plan(
        "demo",
        ("T1",),
        LabelTable.from_values([1]),
        patch_size=(16, 16, 16),
        network=NetworkPlan("one-layer"),
    )
    return replace(made, training=replace(made.training, loss="l2"))


def test_own_networks_need_monai_alone() -> None:
    own = Plan("demo", ("T1",), LabelTable.from_values([1]))
    entries = package_entries(own)
    assert set(entries) == {"required_packages_version"}
    assert set(entries["required_packages_version"]) == {"nibabel", "pytorch-ignite"}


def test_a_run_names_the_packages_and_says_what_to_install(installed, tmp_path: Path, monkeypatch) -> None:
    installed.add("my-networks", {"atlaseg.networks": {"one-layer": "my_network:ROW"}}, my_network=NETWORK)
    installed.add("my-losses", {"atlaseg.losses": {"l2": "my_loss:ROW"}}, my_loss=LOSS)
    run = tmp_path / "run"
    render_bundle(plan(), run, [], [], tmp_path)
    metadata = json.loads((run / "configs" / "metadata.json").read_text())
    assert metadata["required_packages_version"]["my-networks"] == "1.0"
    assert metadata["optional_packages_version"] == {"my-losses": "1.0"}
    assert load_bundle_plan(run) == plan()
    # what is trained with is not needed to label scans
    (installed.folder / "my_losses-1.0.dist-info" / "entry_points.txt").write_text("")
    assert load_bundle_plan(run) == plan()

    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p != str(installed.folder)])
    with pytest.raises(
        PackageError,
        match=r"found 'one-layer'; the run names the package my-networks==1\.0, which is not installed: install it",
    ) as told:
        load_bundle_plan(run)
    assert str(told.value).startswith(f"{run}: expected one of the networks unet, attention-unet")
    (run / "configs" / "metadata.json").write_text('{"required_packages_version": {"$(rm x)": "1"}}')
    with pytest.raises(PackageError, match="install the package that provides it, or train again"):
        load_bundle_plan(run)
