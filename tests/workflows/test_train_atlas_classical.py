"""``atlaseg train --method atlas-gmm`` and ``atlaseg segment`` with what it makes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
from atlaseg.pipeline.errors import DatasetError, MissingFileError, OptionError
from atlaseg.pipeline.io.volume import read_image
from atlaseg.workflows.methods.combined.combined_family import CLASSICAL_WITH_ATLASES
from atlaseg.workflows.methods.families import family_of_run
from atlaseg.workflows.methods.models import find_models
from atlaseg.workflows.segment import Segment
from atlaseg.workflows.train import Train

OPTIONS: dict[str, Any] = {
    "method": "atlas-gmm",
    "transform": "rigid",
    "correct": "no",
    "option": ("components=3", "max_samples=5000", "max_iterations=5"),
}


@pytest.fixture(scope="module")
def run(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("told") / "run"
    assert Train.of(shapes_folder, out, **OPTIONS).run() == 0
    return out


def labels_in(folder: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj)


@pytest.mark.thorough
def test_a_run_is_whole_and_the_same_command_finds_it_finished(
    run: Path, shapes_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert family_of_run(run) is CLASSICAL_WITH_ATLASES
    assert not (run / ".registrations").exists()
    cases = json.loads((run / "configs/cases.json").read_text())
    atlases = json.loads((run / "prior/atlases/atlases.json").read_text())
    assert len(cases["training"]) == 4
    assert len(atlases["atlases"]) == 4
    about = json.loads((run / "configs/weight.json").read_text())
    assert str(about["weight"]) in about["dice_of_weights"]
    assert Train.of(shapes_folder, run, **OPTIONS).run() == 0
    assert "already finished" in capsys.readouterr().err
    with pytest.raises(OptionError, match="holds a run with another weight"):
        Train.of(shapes_folder, run, **OPTIONS, weight=0.5).run()


@pytest.mark.thorough
def test_segment_labels_scans_and_reports_the_atlases(run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    held_out = json.loads((run / "configs/cases.json").read_text())["validation"][0]["name"]
    job = Segment.of((run,), tmp_path / "a", validation=True, weight=0.5, workers=1, probabilities=True)
    assert job.run() == 0
    found = labels_in(tmp_path / "a", held_out)
    assert set(np.unique(found)) > {0}
    report = json.loads((tmp_path / "a" / f"{held_out}_atlases.json").read_text())
    assert len(report["atlases"]) == 4
    chances = labels_in(tmp_path / "a", f"{held_out}_probabilities")
    np.testing.assert_array_equal(chances.argmax(axis=-1), found)


@pytest.mark.thorough
def test_without_weight_it_is_the_method_alone(run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    scan = shapes_folder / "imagesTr/shapes_000.nii.gz"
    assert Segment.of((run, scan), tmp_path, weight=0.0).run() == 0
    alone = ClassicalSegmenter.load(run).segment(read_image(scan)).label_map
    np.testing.assert_array_equal(labels_in(tmp_path, "shapes_000"), alone)
    assert not list(tmp_path.glob("*_atlases.json"))


@pytest.mark.thorough
def test_an_atlas_is_labelled_with_the_help_of_the_others(
    run: Path, shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = json.loads((run / "configs/cases.json").read_text())["training"][0]["name"]
    shutil.copy(shapes_folder / f"imagesTr/{name}.nii.gz", tmp_path / "other.nii.gz")
    assert Segment.of((run, tmp_path / "other.nii.gz"), tmp_path / "out", weight=1.0, workers=1).run() == 0
    assert f"3 of 4 atlases fused, left out {name}: it is the scan itself" in capsys.readouterr().out


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"option": ("nothing=1",)}, "gmm has no option 'nothing'"),
        ({"weight": 2.0}, "at least 0 and at most 1"),
        ({"combine": "bayes"}, "--combine: for networks with atlases only"),
        ({"minutes": 5.0}, "--minutes: for networks and networks with atlases only"),
        ({"method": "atlas-knn", "option": ()}, "method 'atlas-knn' is not known"),
        ({"method": "atlas-region-growing"}, "region-growing learns its own limits"),
        ({"transform": "syn", "engine": "elastix"}, "elastix"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    shapes_folder: Path, tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(OptionError, match=match):
        Train.of(shapes_folder, tmp_path / "run", **{**OPTIONS, **options}).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_broken_data_are_refused_before_anything_is_written(build: Any, tmp_path: Path) -> None:
    folder = build.decathlon(3)
    next(folder.glob("labelsTr/*.nii.gz")).write_bytes(b"no image")
    with pytest.raises(DatasetError, match="labelsTr"):
        Train.of(folder, tmp_path / "run", **OPTIONS).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_a_run_that_was_cut_off_is_not_used(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / "configs/classical.json").unlink()  # it is written last
    with pytest.raises(MissingFileError, match="not a finished run"):
        Segment.of((broken, tmp_path / "scan.nii.gz"), tmp_path / "out").run()


def test_it_is_not_joined_with_another_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "another")
    message = "holds a classical method with atlases and .*another holds a classical method with atlases: they cannot"
    with pytest.raises(OptionError, match=message):
        find_models(Segment((run, tmp_path / "another", tmp_path / "scan.nii.gz"), tmp_path / "out"))
