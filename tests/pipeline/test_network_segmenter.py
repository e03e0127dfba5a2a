"""What the network's segmenter does beyond the contract of all: plans, ensembles, refusals."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from atlaseg.pipeline.bundle import build_plan_network
from atlaseg.pipeline.case import Case
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import (
    GeometryError,
    MissingFileError,
    OptionError,
    UnreadableFileError,
    UnsafeModelError,
)
from atlaseg.pipeline.io.volume import read_image
from atlaseg.pipeline.network_segmenter import NetworkSegmenter, network_grid_transform
from atlaseg.pipeline.planning.plan_file import load_plan, override_plan, save_plan
from atlaseg.pipeline.training.checkpoint import load_weights, read_torch_file


@pytest.fixture(scope="module")
def other_run(runs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second member of an ensemble."""
    return runs.train(tmp_path_factory.mktemp("other") / "run", fold=1, seed=1)


def with_plan(run: Path, copy: Path, *overrides: str) -> Path:
    """A copy of a run with another plan."""
    shutil.copytree(run, copy)
    path = copy / "configs" / "plan.yaml"
    save_plan(override_plan(load_plan(path), overrides), path)
    return copy


@pytest.fixture
def scan(shapes_folder: Path) -> MetaTensor:
    return read_image(shapes_folder / "imagesTr" / "shapes_004.nii.gz")


def plain_probabilities(runs: Sequence[Path], scan: MetaTensor, flips: Sequence[tuple[int, ...]]) -> Any:
    """MONAI's sliding window and softmax on a grid that is the scan's own, averaged over everything."""
    results = []
    for run in runs:
        plan = load_plan(run / "configs" / "plan.yaml")
        network = build_plan_network(plan).eval()
        load_weights(network, run / "models" / "model.pt")
        image = network_grid_transform(plan)({"image": scan.clone()})["image"].as_tensor()[None]
        window = SlidingWindowInferer(
            plan.patch_size, overlap=plan.inference.overlap, mode="gaussian", padding_mode="replicate"
        )
        for axes in flips:
            dims = [a + 2 for a in axes]
            with torch.no_grad():
                # each window is mirrored about itself
                def flipped(x: torch.Tensor, net: Any = network, dims: list[int] = dims) -> torch.Tensor:
                    return net(x.flip(dims)).flip(dims).softmax(1)

                results.append(window(image, flipped)[0])
    return torch.stack(results).mean(0).numpy()


def test_probabilities_are_the_plain_ones(tiny_run: Path, scan: MetaTensor) -> None:
    result = NetworkSegmenter.load(tiny_run).segment(scan, probabilities=True)
    assert result.probabilities is not None
    assert result.probabilities.shape == (3, 24, 24, 24)
    np.testing.assert_allclose(result.probabilities.astype(float).sum(0), 1, atol=2e-3)


@pytest.mark.thorough
def test_an_ensemble_averages_softmax(tiny_run: Path, other_run: Path, scan: MetaTensor) -> None:
    """With a single window there is no doubt about the order of averaging."""
    small = scan[:, :16, :16, :16]
    result = NetworkSegmenter.load(tiny_run, other_run).segment(small, probabilities=True)
    expected = plain_probabilities([tiny_run, other_run], small, [()])
    np.testing.assert_allclose(result.probabilities, expected, atol=2e-3)
    np.testing.assert_array_equal(result.label_map, expected.argmax(0))
    alone = NetworkSegmenter.load(tiny_run).segment(small, probabilities=True)
    assert np.abs(alone.probabilities - expected).max() > 0.01


def test_mirrored_copies_are_averaged(tiny_run: Path, tmp_path: Path, scan: MetaTensor) -> None:
    run = with_plan(tiny_run, tmp_path / "run", "inference.mirror_axes=[0,1,2]")
    small = scan[:, :16, :16, :16]
    flips = [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]  # all eight passes: none is shifted
    result = NetworkSegmenter.load(run).segment(small, tta=True, probabilities=True)
    np.testing.assert_allclose(result.probabilities, plain_probabilities([tiny_run], small, flips), atol=2e-3)


@pytest.mark.thorough
def test_augmentation_at_test_time_by_request_or_by_plan(
    tiny_run: Path, tmp_path: Path, scan: MetaTensor
) -> None:
    def chances(run: Path, tta: bool | None) -> Any:
        return NetworkSegmenter.load(run).segment(scan, tta=tta, probabilities=True).probabilities

    run = with_plan(tiny_run, tmp_path / "run", "inference.tta=true")
    wanted, plain = chances(tiny_run, True), chances(tiny_run, None)
    assert np.abs(wanted.astype(float) - plain).max() > 1e-3
    np.testing.assert_array_equal(chances(run, None), wanted)
    np.testing.assert_array_equal(chances(run, False), plain)


def test_progress_rises_to_one(tiny_run: Path, scan: MetaTensor) -> None:
    shares: list[float] = []
    NetworkSegmenter.load(tiny_run).segment(
        scan, progress=lambda done, total, what: shares.append(done / total)
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("shape", [(2, 24, 24, 24), (24, 24, 24), (1, 24, 24)])
def test_other_channels_or_dimensions(tiny_run: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match=r"1 channel\(s\)"):
        NetworkSegmenter.load(tiny_run).segment(MetaTensor(torch.zeros(shape), affine=torch.eye(4)))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("spacing=[2,2,2]", "spacing"),
        ("orientation=LPS", "orientation"),
        ("patch_size=[24,24,24]", "patch_size"),
        ("normalisation.nonzero=true", "normalisation"),
    ],
)
def test_members_that_do_not_go_together(tiny_run: Path, tmp_path: Path, override: str, named: str) -> None:
    run = with_plan(tiny_run, tmp_path / "run", override)
    with pytest.raises(OptionError, match=f"its {named} differs") as error:
        NetworkSegmenter.load(tiny_run, run)
    assert str(run) in str(error.value)


@pytest.mark.thorough
def test_members_may_have_other_networks(runs: Any, tiny_run: Path, tmp_path: Path, scan: MetaTensor) -> None:
    fcn = runs.train(tmp_path / "run", "network.channels=[4,6]", seed=3)
    assert NetworkSegmenter.load(tiny_run, fcn).segment(scan).label_map.shape == (24, 24, 24)


def test_weights_of_another_network(tiny_run: Path, tmp_path: Path) -> None:
    run = with_plan(tiny_run, tmp_path / "run", "network.channels=[8,16]")
    with pytest.raises(UnreadableFileError, match="do not suit the plan's network") as error:
        NetworkSegmenter.load(run)
    assert "\n" not in str(error.value)


def test_runs_without_weights(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run / "configs", tmp_path / "run" / "configs")
    with pytest.raises(MissingFileError, match="has this run been trained"):
        NetworkSegmenter.load(tmp_path / "run")


def test_malicious_weights(tiny_run: Path, tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "proof",)

    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    torch.save({"x": Malicious()}, run / "models" / "model.pt")
    with pytest.raises(UnsafeModelError):
        NetworkSegmenter.load(run)
    assert not (tmp_path / "proof").exists()


def test_an_ensemble_is_saved_run_by_run(tiny_run: Path, other_run: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="each of them"):
        NetworkSegmenter.load(tiny_run, other_run).save(tmp_path / "saved")


def test_saved_folder(tiny_run: Path, tmp_path: Path) -> None:
    segmenter = NetworkSegmenter.load(tiny_run)
    segmenter.save(tmp_path / "saved")
    assert {p.name for p in (tmp_path / "saved" / "models").iterdir()} == {"model.pt"}
    segmenter.save(tiny_run)  # onto itself: nothing to do


def tiny_plan(tiny_run: Path) -> Any:
    return load_plan(tiny_run / "configs" / "plan.yaml")


def test_fit_needs_a_folder(shapes_folder: Path) -> None:
    with pytest.raises(OptionError, match="NetworkSegmenter\\(folder="):
        NetworkSegmenter().fit(read_dataset(shapes_folder))


@pytest.mark.thorough
def test_fit_keeps_cases_for_validation(shapes_folder: Path, tiny_run: Path, tmp_path: Path) -> None:
    import json

    dataset = read_dataset(shapes_folder)
    NetworkSegmenter(tmp_path / "run", tiny_plan(tiny_run), validation=0.4, device="cpu").fit(dataset)
    cases = json.loads((tmp_path / "run" / "configs" / "cases.json").read_text())
    assert len(cases["validation"]) == 2
    assert len(cases["training"]) == 3


@pytest.mark.thorough
def test_another_fit_in_the_same_folder(shapes_folder: Path, tiny_run: Path, tmp_path: Path) -> None:
    """Going on is for the same plan and cases; others would silently get the first one's weights."""
    dataset = read_dataset(shapes_folder)
    plan = tiny_plan(tiny_run)
    first = NetworkSegmenter(tmp_path / "run", plan, device="cpu").fit(dataset)
    before = read_torch_file(tmp_path / "run" / "models" / "model.pt")
    NetworkSegmenter(tmp_path / "run", plan, device="cpu").fit(dataset)  # finished: nothing happens
    reworded = dataclasses.replace(plan, reasons={"patch_size": "in the words of another version"})
    NetworkSegmenter(tmp_path / "run", reworded, device="cpu").fit(dataset)
    with pytest.raises(OptionError, match="holds another run"):
        NetworkSegmenter(tmp_path / "run", override_plan(plan, ["training.seed=9"]), device="cpu").fit(
            dataset
        )
    with pytest.raises(OptionError, match="holds another run"):
        first.fit(dataset.subset([case.name for case in dataset.cases[:4]]))
    after = read_torch_file(tmp_path / "run" / "models" / "model.pt")
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_grid_of_the_network(tiny_run: Path) -> None:
    plan = override_plan(tiny_plan(tiny_run), ["spacing=[2,2,2]", "orientation=LPS"])
    voxels = torch.rand(1, 20, 24, 28) + 5
    prepared = network_grid_transform(plan)({"image": MetaTensor(voxels, affine=torch.eye(4))})["image"]
    assert prepared.shape == (1, 10, 12, 14)
    np.testing.assert_allclose(np.diag(prepared.affine)[:3], (-2, -2, 2))
    assert float(prepared.mean()) == pytest.approx(0, abs=1e-5)
    assert float(prepared.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_labels_onto_the_networks_grid(tiny_run: Path) -> None:
    from dataclasses import replace

    from atlaseg.pipeline.case import LabelTable

    plan = replace(tiny_plan(tiny_run), labels=LabelTable((0, 7, 300), ("background", "a", "b")))
    label = torch.zeros(1, 16, 16, 16)
    label[0, :4] = 7
    label[0, 4:8] = 300
    data = {
        "image": MetaTensor(torch.rand(1, 16, 16, 16), affine=torch.eye(4)),
        "label": MetaTensor(label, affine=torch.eye(4)),
    }
    mapped = network_grid_transform(plan)(data)["label"]
    assert mapped[0, 0, 0, 0] == 1
    assert mapped[0, 5, 0, 0] == 2
    assert mapped[0, 12, 0, 0] == 0


def test_case_without_label_cannot_train(tiny_run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    case = Case("x", (shapes_folder / "imagesTr" / "shapes_000.nii.gz",))
    segmenter = NetworkSegmenter(tmp_path / "run", tiny_plan(tiny_run), device="cpu")
    with pytest.raises(MissingFileError, match="case x has no label map"):
        segmenter.fit_split(read_dataset(shapes_folder), [case], [case])
