"""The command ``train`` for atlases: its output, resumption, and errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    LabelError,
    NothingToLearnError,
    OptionError,
    UnreadableFileError,
)
from atlaseg.pipeline.io.volume import read_image
from atlaseg.workflows.cli import main
from atlaseg.workflows.train import Train


def job(dataset: Path, out: Path, **options: Any) -> Train:
    return Train.of(dataset, out, **({"method": "majority", "transform": "rigid"} | options))


@pytest.fixture(scope="module")
def run(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("atlases") / "run"
    assert job(shapes_folder, out, keep=3, seed=4).run() == 0
    return out


def names(run: Path, part: str) -> list[str]:
    return [case["name"] for case in json.loads((run / "configs" / "cases.json").read_text())[part]]


@pytest.mark.thorough
def test_output_files(run: Path) -> None:
    configs = {path.name for path in (run / "configs").iterdir()}
    assert configs == {"atlases.json", "cases.json", "metadata.json", "request.json"}
    segmenter = MultiAtlasSegmenter.load(run)
    assert segmenter.settings.fusion == "majority"
    options = segmenter.settings.propagation
    assert (options.transform, options.keep, options.seed) == ("rigid", 3, 4)
    assert list(segmenter.atlases.names) == names(run, "training")
    assert len(names(run, "training")) == 4


def test_the_folds_are_those_of_networks(run: Path, tiny_run: Path) -> None:
    assert (run / "configs" / "cases.json").read_text() == (tiny_run / "configs" / "cases.json").read_text()


@pytest.mark.thorough
def test_a_correction_is_learnt_from_all_atlases(shapes_folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    assert job(shapes_folder, out, folds=1, engine="torch", method="joint-fusion").run() == 0
    assert "20 registrations" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {"atlases", "configs", "correction.npz"}
    corrected, plain = MultiAtlasSegmenter.load(out), MultiAtlasSegmenter.load(out)
    assert corrected.is_corrected
    assert not plain.choose(seed=1).is_corrected
    assert corrected.choose(fusion="joint").is_corrected
    scan = read_image(corrected.atlases.atlases[0].images)
    chances = corrected.segment(scan, probabilities=True).probabilities
    uncorrected = plain.segment(scan, probabilities=True).probabilities
    assert chances is not None
    assert uncorrected is not None
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-5)
    assert not np.array_equal(chances, uncorrected)
    # a correction has seen the labels of every atlas, so that no prior may go through it
    np.testing.assert_array_equal(corrected.propagate_probabilities(scan).numpy(), uncorrected)
    name = corrected.atlases.names[0]
    for one in (corrected, plain):
        assert one.segment_case_without(name, probabilities=True).probabilities is not None
    np.testing.assert_array_equal(
        corrected.segment_case_without(name).label_map, plain.segment_case_without(name).label_map
    )
    # neither by the command, on an atlas' own scan; other options than those that it was learnt with do without it
    own = next((out / "atlases" / "images").glob(f"{name}*"))
    for options, says in (((), "itself"), (("--keep", "3"), "correction is not used")):
        labels = tmp_path / f"labels{len(options)}"
        assert main(["segment", str(out), str(own), "--out", str(labels), *options]) == 0
        assert says in capsys.readouterr().out
        report = json.loads((labels / f"{own.name.removesuffix('.nii.gz')}_atlases.json").read_text())
        assert not report["corrected"]
    # one that a hand has mixed up with another run's is refused
    (out / "correction.npz").write_bytes(b"spoilt")
    with pytest.raises(UnreadableFileError, match=r"correction\.npz: not readable as arrays"):
        MultiAtlasSegmenter.load(out)


@pytest.mark.thorough
@pytest.mark.parametrize("options", [{"method": "joint-fusion", "correct": "no"}, {"method": "majority"}])
def test_no_correction_where_none_is_wanted(
    shapes_folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    assert job(shapes_folder, tmp_path / "run", folds=1, **options).run() == 0
    assert not (tmp_path / "run" / "correction.npz").exists()


@pytest.mark.thorough
def test_atlases_that_never_disagree_teach_no_correction(
    shapes_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    first = sorted((shapes_folder / "imagesTr").glob("*.nii.gz"))[0].name
    for kind, source in (("images", "imagesTr"), ("labels", "labelsTr")):
        (tmp_path / "same" / kind).mkdir(parents=True)
        for number in range(4):
            shutil.copy(shapes_folder / source / first, tmp_path / "same" / kind / f"scan{number}.nii.gz")
    options = {"folds": 1, "method": "joint-fusion"}
    assert job(tmp_path / "same", tmp_path / "run", **options).run() == 0
    assert "No correction: nothing to learn" in capsys.readouterr().err
    assert not MultiAtlasSegmenter.load(tmp_path / "run").is_corrected
    with pytest.raises(NothingToLearnError):
        job(tmp_path / "same", tmp_path / "other", **options, correct="yes").run()


@pytest.mark.thorough
def test_one_fold_means_all_cases(shapes_folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert job(shapes_folder, tmp_path / "run", folds=1).run() == 0
    assert "5 atlases with 2 structures" in capsys.readouterr().out
    assert len(names(tmp_path / "run", "training")) == 5
    assert names(tmp_path / "run", "validation") == []
    with pytest.raises(OptionError, match="at least 2"):
        Train.of(shapes_folder, tmp_path / "other", folds=1).run()


@pytest.mark.thorough
def test_fewer_cases_than_folds_says_what_to_do(shapes_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"only 5 labelled .* --folds 1 to make atlases of all"):
        job(shapes_folder, tmp_path / "run", folds=6).run()


@pytest.mark.thorough
def test_a_finished_run_is_left_alone(run: Path, shapes_folder: Path, capsys: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert job(shapes_folder, run, keep=3, seed=4).run() == 0
    assert "already finished; nothing to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.thorough
@pytest.mark.parametrize(
    "lost", [("configs/atlases.json",), ("configs/atlases.json", "atlases/atlases.json")]
)
def test_killed_while_copying(run: Path, shapes_folder: Path, tmp_path: Path, lost: tuple[str, ...]) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in lost:
        (tmp_path / "run" / name).unlink()
    first = next((tmp_path / "run" / "atlases" / "images").iterdir())
    first.unlink()
    (first.parent / ".writing-abc.nii.gz").write_bytes(b"half")
    assert job(shapes_folder, tmp_path / "run", keep=3, seed=4).run() == 0
    assert MultiAtlasSegmenter.load(tmp_path / "run").settings == MultiAtlasSegmenter.load(run).settings


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 5}, "seed"),
        ({"method": "staple"}, "method"),
        ({"transform": "affine", "keep": None}, "transform, keep"),
        ({"fold": 1}, "fold"),
    ],
)
def test_another_command_on_the_same_folder(
    run: Path, shapes_folder: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(OptionError, match=f"holds a run with another {named}; give the same options"):
        job(shapes_folder, run, **({"keep": 3, "seed": 4} | changes)).run()


@pytest.mark.thorough
def test_a_network_in_the_place_of_atlases(run: Path, tiny_run: Path, shapes_folder: Path) -> None:
    with pytest.raises(OptionError, match="another method"):
        Train.of(shapes_folder, run, keep=None).run()
    with pytest.raises(OptionError, match="another method"):
        job(shapes_folder, tiny_run).run()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3}, "--epochs: for networks.* only, and not for method majority"),
        ({"minutes": 3.0, "device": "cpu"}, "--minutes, --device: for networks.* only"),
        ({"plan": Path("p.yaml")}, "--plan: for networks.* only"),
        ({"override": ("a=1",), "depth": "context", "memory": "1GB"}, "--override, --depth, --memory"),
        ({"tracking": "none"}, "--tracking: for networks.* only"),
        ({"method": "unet", "keep": 3}, "--transform, --keep: for atlases.* only, and not for method unet"),
        ({"method": None, "engine": "ants"}, "--transform, --engine: for atlases.* only"),
        (
            {"method": "joined"},
            "choose one of the networks: unet, .*; atlases: joint, ",
        ),
        ({"transform": "fluid"}, "no transform 'fluid'"),
        ({"engine": "niftyreg"}, "no registration engine 'niftyreg'"),
        ({"transform": "syn", "engine": "elastix"}, "elastix has no syn stage"),
        ({"keep": 0}, "--keep must be at least 1"),
        ({"fold": 5}, "choose 0 to 4"),
    ],
)
def test_refuses_options(shapes_folder: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        job(shapes_folder, tmp_path / "run", **options).run()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_bad_data_is_refused_before_anything_is_written(build: Any, tmp_path: Path) -> None:
    folder = build.decathlon(count=3)
    build.volume(folder / "labelsTr/c.nii.gz", build.labels() + np.uint8(1))
    with pytest.raises(LabelError, match=r"labelsTr/c\.nii\.gz"):
        job(folder, tmp_path / "run", folds=1).run()
    with pytest.raises(AtlasegError):
        job(tmp_path / "none", tmp_path / "run").run()
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_folders_with_something_else(shapes_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OptionError, match="not empty and not a run"):
        job(shapes_folder, tmp_path).run()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.thorough
def test_unknown_files_among_the_atlases(run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "configs" / "atlases.json").unlink()
    (tmp_path / "run" / "atlases" / "images" / "stranger.nii.gz").touch()
    with pytest.raises(DatasetError, match=r"stranger\.nii\.gz"):
        job(shapes_folder, tmp_path / "run", keep=3, seed=4).run()


@pytest.mark.thorough
def test_spoilt_settings_are_one_line(
    run: Path, shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "configs" / "atlases.json").write_text("{}")
    words = ["train", str(shapes_folder), "--out", str(tmp_path / "run"), "--method", "majority"]
    assert main([*words, "--transform", "rigid", "--keep", "3", "--seed", "4"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "atlases.json: not the settings" in line
