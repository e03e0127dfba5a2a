"""The command ``train --method atlas-unet``: its output, resumption, errors, and segmentation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.combined.atlas_network_segmenter import AtlasNetworkSegmenter
from atlaseg.pipeline.errors import GeometryError, MissingFileError, OptionError, UnreadableFileError
from atlaseg.pipeline.io.volume import read_image
from atlaseg.pipeline.network_segmenter import NetworkSegmenter
from atlaseg.workflows.benchmarking.meter import Registrations
from atlaseg.workflows.cli import main
from atlaseg.workflows.train import Train


def job(runs: Any, out: Path, **options: Any) -> Any:
    return runs.job(
        out, **({"method": "atlas-unet", "transform": "rigid", "prior": "yes", "warped": 3} | options)
    )


@pytest.fixture(scope="module")
def run(runs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("joined") / "run"
    assert job(runs, out).run() == 0
    return out


def cases(run: Path) -> Any:
    return json.loads((run / "configs" / "cases.json").read_text())


@pytest.mark.thorough
def test_output_files(run: Path) -> None:
    there = {path.name for path in run.iterdir()}
    assert {"configs", "models", "prior", "priors", "warped"} <= there
    assert ".registrations" not in there
    content = cases(run)
    assert [len(content[part]) for part in ("training", "validation", "warped")] == [4, 1, 3]
    sources = {case["name"] for case in content["training"]}
    for case in (*content["training"], *content["validation"], *content["warped"]):
        prior = nib.load(run / case["prior"])
        assert prior.shape == (24, 24, 24, 3)
        np.testing.assert_allclose(np.asarray(prior.dataobj).sum(axis=-1), 1, atol=1e-3)
    for case in content["warped"]:
        assert case["source"] in sources
        assert (run / case["label"]).is_file()
    network = NetworkSegmenter.load(run)
    assert network.fitted_plan.inputs == 4
    metadata = json.loads((run / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["inputs"]["image"]["num_channels"] == 4
    assert "prior of background" in metadata["network_data_format"]["inputs"]["image"]["channel_def"].values()


@pytest.mark.thorough
def test_the_weight_is_learnt_from_cases_that_were_held_out(run: Path) -> None:
    found = json.loads((run / "configs" / "combination.json").read_text())
    assert found["weight_from"] == "1 held-out cases"
    assert found["dice_of_weights"][str(found["weight"])] == max(found["dice_of_weights"].values())


@pytest.mark.thorough
def test_the_same_command_resumes(run: Path, runs: Any, tmp_path: Path, capsys: Any) -> None:
    capsys.readouterr()
    assert job(runs, run).run() == 0
    assert "already finished" in capsys.readouterr().err
    # killed after training, before the weight was learnt
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "configs" / "combination.json").unlink()
    with pytest.raises(MissingFileError, match="not a finished run"):
        AtlasNetworkSegmenter.load(tmp_path / "run")
    weights = (tmp_path / "run" / "models" / "model.pt").read_bytes()
    assert job(runs, tmp_path / "run").run() == 0
    assert (tmp_path / "run" / "models" / "model.pt").read_bytes() == weights
    assert (tmp_path / "run" / "configs" / "combination.json").read_text() == (
        run / "configs" / "combination.json"
    ).read_text()
    with pytest.raises(OptionError, match="another warped"):
        job(runs, tmp_path / "run", warped=2).run()


@pytest.mark.thorough
def test_labels_by_one_command(run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    assert main(["segment", str(run), "--validation", "--out", str(tmp_path), "--probabilities"]) == 0
    name = cases(run)["validation"][0]["name"]
    labels = nib.load(tmp_path / f"{name}.nii.gz")
    chances = np.asarray(nib.load(tmp_path / f"{name}_probabilities.nii.gz").dataobj)
    assert set(np.unique(labels.dataobj)) <= {0, 1, 2}
    np.testing.assert_allclose(chances.sum(axis=-1), 1, atol=1e-3)
    report = json.loads((tmp_path / f"{name}_atlases.json").read_text())
    assert len(report["atlases"]) == 4
    # as Python has it
    image = read_image([shapes_folder / "imagesTr" / f"{name}.nii.gz"])
    np.testing.assert_array_equal(
        AtlasNetworkSegmenter.load(run).segment(image).label_map, np.asarray(labels.dataobj)
    )
    # a training scan is helped by the other atlases only
    own = cases(run)["training"][0]
    scan = shapes_folder / "imagesTr" / f"{own['name']}.nii.gz"
    assert main(["segment", str(run), str(scan), "--out", str(tmp_path / "own")]) == 0
    assert "it is the scan itself" in (tmp_path / "own" / f"{own['name']}_atlases.json").read_text()


@pytest.mark.thorough
def test_another_way_of_joining_for_once(run: Path, tmp_path: Path) -> None:
    chances = {}
    for options in ((), ("--weight", "0"), ("--combine", "none"), ("--combine", "bayes"), ("--weight", "1")):
        out = tmp_path / "-".join(("x", *options))
        words = [
            "segment",
            str(run),
            "--validation",
            "--out",
            str(out),
            "--probabilities",
            "--work",
            str(tmp_path / "w"),
        ]
        assert main([*words, *options]) == 0
        chances[options] = np.asarray(nib.load(next(out.glob("*_probabilities.nii.gz"))).dataobj)
    network, atlases = chances["--weight", "0"], chances["--weight", "1"]
    np.testing.assert_array_equal(network, chances["--combine", "none"])
    weight = json.loads((run / "configs" / "combination.json").read_text())["weight"]
    np.testing.assert_allclose(chances[()], (1 - weight) * network + weight * atlases, atol=1e-3)
    floored = network * np.maximum(atlases, 1e-3) ** 0.3
    np.testing.assert_allclose(
        chances["--combine", "bayes"], floored / floored.sum(axis=-1, keepdims=True), atol=2e-3
    )
    assert main(["segment", str(run), "--validation", "--out", str(tmp_path / "no"), "--weight", "2"]) == 2


@pytest.mark.thorough
def test_the_network_does_without_its_prior(run: Path, shapes_folder: Path) -> None:
    network = NetworkSegmenter.load(run)
    image = read_image([next((shapes_folder / "imagesTr").glob("*.nii.gz"))])
    told = AtlasNetworkSegmenter.load(run)
    assert told.needs_atlases
    assert network.segment(image).label_map.shape == image.shape[1:]
    with pytest.raises(GeometryError, match="expected a prior"):
        network.segment(image, prior=image)


@pytest.mark.thorough
def test_atlases_that_only_help_to_train(runs: Any, shapes_folder: Path, tmp_path: Path) -> None:
    assert job(runs, tmp_path / "run", prior="no", combine="none").run() == 0
    assert not (tmp_path / "run" / "priors").exists()
    assert len(cases(tmp_path / "run")["warped"]) == 3
    segmenter = AtlasNetworkSegmenter.load(tmp_path / "run")
    assert not segmenter.needs_atlases
    assert main(["segment", str(tmp_path / "run"), "--validation", "--out", str(tmp_path / "labels")]) == 0
    assert not list((tmp_path / "labels").glob("*_atlases.json"))
    image = read_image([next((shapes_folder / "imagesTr").glob("*.nii.gz"))])
    with pytest.raises(OptionError, match="trained without a prior"):
        segmenter.network.segment(image, prior=image)


@pytest.mark.thorough
def test_nothing_joined_is_the_network_alone(shapes_folder: Path, tmp_path: Path, runs: Any) -> None:
    assert job(runs, tmp_path / "run", prior="no", combine="ensemble", weight=0.0, warped=0).run() == 0
    alone = runs.train(tmp_path / "alone")
    image = read_image([next((shapes_folder / "imagesTr").glob("*.nii.gz"))])
    joined = AtlasNetworkSegmenter.load(tmp_path / "run").segment(image, probabilities=True)
    network = NetworkSegmenter.load(alone).segment(image, probabilities=True)
    np.testing.assert_array_equal(joined.probabilities, network.probabilities)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 2.0}, "at most 1"),
        ({"weight": 0.5, "combine": "none"}, "has no effect"),
        ({"warped": -1}, "at least 0"),
        ({"transform": "sideways"}, "sideways"),
        ({"option": ("a=1",)}, "--option: for classical"),
        (
            {"method": "unet", "prior": "yes", "transform": None},
            "--prior, --warped: for networks with atlases only",
        ),
        ({"folds": 9}, "9"),
    ],
)
def test_what_is_refused(runs: Any, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        job(runs, tmp_path / "run", **options).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_a_spoilt_combination_is_one_line(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "configs" / "combination.json").write_text('{"kind": "vote", "weight": 1}')
    with pytest.raises(UnreadableFileError, match=r"combination\.json: no combination 'vote'"):
        AtlasNetworkSegmenter.load(tmp_path / "run")


@pytest.mark.thorough
def test_two_models_are_not_mixed(run: Path, tiny_run: Path, tmp_path: Path) -> None:
    assert main(["segment", str(run), str(tiny_run), str(tmp_path), "--out", str(tmp_path / "out")]) == 2


@pytest.mark.thorough
def test_registrations_serve_everything_and_every_run(runs: Any, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert job(runs, tmp_path / "first", work=work, correct="yes").run() == 0
    kept = sorted(work.glob("*.json"))
    # 4 training cases, each from the 3 others, and from all of them to the one of validation
    assert len({path.name for path in kept}) == 4 * 3 + 4
    reused = Registrations(work)
    assert reused.reused_seconds() == 0
    assert job(runs, tmp_path / "second", work=work, prior="no").run() == 0
    assert sorted(work.glob("*.json")) == kept
    assert reused.reused_seconds() == pytest.approx(
        sum(json.loads(path.read_text())["seconds"] for path in kept)
    )
    # an atlas method alone has the same ones
    options = {"method": "joint", "transform": "rigid", "work": work, "correct": "yes"}
    assert Train.of(runs.dataset, tmp_path / "third", **options).run() == 0
    assert sorted(work.glob("*.json")) == kept


@pytest.mark.thorough
def test_scans_without_labels_are_learnt_from(runs: Any, shapes_folder: Path, tmp_path: Path) -> None:
    scan = nib.load(next((shapes_folder / "imagesTr").glob("*.nii.gz")))
    noise = np.random.default_rng(0).normal(0, 1, scan.shape)
    (tmp_path / "more").mkdir()
    for number in range(2):
        other = np.asarray(scan.dataobj) + (number + 1) * noise
        nib.save(
            nib.Nifti1Image(other.astype(np.float32), scan.affine), tmp_path / "more" / f"m{number}.nii.gz"
        )
    options = {"unlabelled": tmp_path / "more", "correct": "no", "warped": 1}
    assert job(runs, tmp_path / "run", **options).run() == 0
    found = cases(tmp_path / "run")["unlabelled"]
    assert [case["name"] for case in found] == ["m0", "m1"]
    for case in found:
        assert 0 < case["certainty"] <= 1
        assert (tmp_path / "run" / case["label"]).is_file()
        assert (tmp_path / "run" / case["prior"]).is_file()
        assert case["image"] == [f"{case['name']}.nii.gz"]
    with pytest.raises(MissingFileError, match="elsewhere"):
        job(runs, tmp_path / "other", unlabelled=tmp_path / "elsewhere").run()


@pytest.mark.thorough
def test_some_of_the_cases_are_atlases(runs: Any, shapes_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert job(runs, out, atlases=3, warped=2).run() == 0
    segmenter = AtlasNetworkSegmenter.load(out)
    assert len(segmenter.atlases.atlases) == 3
    content = cases(out)
    assert len(content["training"]) == 4
    (other,) = {case["name"] for case in content["training"]} - set(segmenter.atlases.atlases.names)
    # a training case that is no atlas has the prior of all atlases, as a new scan has
    image = read_image([shapes_folder / "imagesTr" / f"{other}.nii.gz"])
    expected = segmenter.atlases.propagate_probabilities(image).numpy()
    written = np.asarray(nib.load(out / "priors" / f"{other}.nii.gz").dataobj)
    np.testing.assert_allclose(np.moveaxis(written, -1, 0), expected, atol=1e-3)
