"""``atlaseg train`` and ``segment`` with classical methods: runs, masks, seeds, refusals; and the benchmark."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
from atlaseg.pipeline.classical.methods.kmeans import CLUSTERS
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    MissingFileError,
    OptionError,
    PlanError,
    UnreadableFileError,
    UnsafeModelError,
)
from atlaseg.pipeline.io.volume import read_image
from atlaseg.workflows.cli import main
from atlaseg.workflows.methods.classical.seeds import read_seed
from atlaseg.workflows.segment import Segment
from atlaseg.workflows.studies.classical_methods import ClassicalBenchmark
from atlaseg.workflows.train import Train


@pytest.fixture(scope="module")
def run(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classical") / "run"
    assert Train.of(shapes_folder, out, method="kmeans", option=("clusters=3",)).run() == 0
    return out


@pytest.fixture
def balls(tmp_path: Path) -> Path:
    """Two bright balls apart, on a grid with its origin elsewhere and 2 mm voxels."""
    places = np.indices((20, 20, 20))
    centres = np.array([(5, 10, 10), (14, 10, 10)])
    near = [((places - c[:, None, None, None]) ** 2).sum(axis=0) < 9 for c in centres]
    noise = np.random.default_rng(0).normal(0, 0.02, places.shape[1:])
    voxels = (near[0] | near[1]).astype(np.float32) + noise
    affine = np.diag((-2.0, 2, 2, 1))
    affine[:3, 3] = (30, -7, 4)
    path = tmp_path / "balls.nii.gz"
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), path)
    return path


def labels(path: Path) -> Any:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.thorough
def test_a_run(run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    assert {p.name for p in (run / "configs").iterdir()} == {
        *("classical.json", "cases.json", "metadata.json", "request.json")
    }
    assert json.loads((run / "configs" / "classical.json").read_text())["options"]["clusters"] == 3
    assert Segment.of((run,), tmp_path / "out", validation=True, probabilities=True).run() == 0
    (name,) = [
        case["name"] for case in json.loads((run / "configs" / "cases.json").read_text())["validation"]
    ]
    scan = shapes_folder / "imagesTr" / f"{name}.nii.gz"
    expected = ClassicalSegmenter.load(run).segment(read_image(scan), probabilities=True)
    np.testing.assert_array_equal(labels(tmp_path / "out" / f"{name}.nii.gz"), expected.label_map)
    chances = labels(tmp_path / "out" / f"{name}_probabilities.nii.gz")
    np.testing.assert_allclose(chances.sum(axis=-1), 1, atol=1e-5)


def test_the_same_command_again(run: Path, shapes_folder: Path, capsys: Any) -> None:
    assert Train.of(shapes_folder, run, method="kmeans", option=("clusters=3",)).run() == 0
    assert "already finished" in capsys.readouterr().err
    with pytest.raises(OptionError, match="another option"):
        Train.of(shapes_folder, run, method="kmeans", option=("clusters=4",)).run()


@pytest.mark.thorough
def test_masks_are_used_and_then_needed(build: Any, tmp_path: Path) -> None:
    folder = build.folders(3)
    mask = np.zeros(build.shape, np.uint8)
    mask[1:5, 1:6, 1:7] = 1
    for name in "abc":
        build.volume(folder / f"masks/{name}.nii.gz", mask)
    assert Train.of(folder, tmp_path / "run", method="kmeans", folds=1).run() == 0
    scan = folder / "images" / "a.nii.gz"
    with pytest.raises(OptionError, match="--masks"):
        Segment.of((tmp_path / "run", scan), tmp_path / "out").run()
    assert Segment.of((tmp_path / "run", scan), tmp_path / "out", masks=folder / "masks").run() == 0
    assert not labels(tmp_path / "out" / "a.nii.gz")[mask == 0].any()


@pytest.mark.parametrize("in_mm", [False, True])
def test_seeds_without_a_run(balls: Path, tmp_path: Path, in_mm: bool) -> None:
    seeds = ("20,13,24mm", "7:2,13,24mm") if in_mm else ("5,10,10", "7:14,10,10")
    words = ["segment", "--method", "region-growing", *(w for s in seeds for w in ("--seed", s))]
    assert main([*words, str(balls), "--out", str(tmp_path / "out"), "--option", "homogeneity=range"]) == 0
    found, bright = labels(tmp_path / "out" / "balls.nii.gz"), labels(balls) > 0.5
    np.testing.assert_array_equal(found > 0, bright)
    assert set(np.unique(found[:10])) == {0, 1}
    assert set(np.unique(found[10:])) == {0, 7}


@pytest.mark.parametrize(("seed", "told"), [("5,10,10", False), ("0,0,0", True)])
def test_a_leaking_region_is_reported(
    balls: Path, tmp_path: Path, capsys: Any, seed: str, told: bool
) -> None:
    words = ["segment", "--method", "region-growing", "--seed", seed, "--option", "homogeneity=range"]
    assert main([*words, str(balls), "--out", str(tmp_path / "out")]) == int(told)
    share = (labels(tmp_path / "out" / "balls.nii.gz") > 0).mean()
    assert (share > 0.5) == told
    shown = capsys.readouterr()
    assert (f"{share:.0%} of all: it has leaked" in shown.out) == told
    assert (f"LEAKED balls: {int(share * 8000)} voxels, {share:.0%} of all" in shown.err) == told


def test_a_seed_outside_is_one_line(balls: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["segment", "--method", "region-growing", "--seed", "5,10,20", str(balls)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "outside the volume of 20 x 20 x 20" in line


@pytest.mark.parametrize("text", ["1,2", "a,b,c", "0:1,2,3", "x:1,2,3", "1,2,3cm", ""])
def test_seeds_of_another_form(text: str) -> None:
    with pytest.raises(OptionError, match="write x,y,z"):
        read_seed(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "kmeans", "epochs": 3}, "--epochs: for networks .*, and not for method kmeans"),
        ({"method": "kmeans", "keep": 3}, "--keep: for atlases, "),
        (
            {"method": "unet", "option": ("a=1",)},
            "--option: for classical methods and classical methods with atlases only",
        ),
        (
            {"method": "majority", "option": ("a=1",)},
            "--option: for classical methods and classical methods with atlases only",
        ),
        (
            {"method": "kmeans", "option": ("colour=1",)},
            "kmeans has no option 'colour'; its options are clusters",
        ),
        ({"method": "kmeans", "option": ("clusters=many",)}, "clusters: expected a whole number"),
        ({"method": "kmeans", "option": ("clusters",)}, "write it as name=value"),
        ({"method": "region-growing", "option": ("radius=2",)}, "learns its own limits"),
        ({"method": "kmeans", "folds": 9}, "only 5 labelled .* --folds 1 to learn from all"),
    ],
)
def test_train_refuses(shapes_folder: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        Train.of(shapes_folder, tmp_path / "run", **options).run()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "watershed", "seed": ("1,1,1",)}, "only region-growing goes without a run"),
        ({"seed": ("1,1,1",)}, "name the method"),
        ({"method": "region-growing"}, "needs --seed"),
        ({"method": "region-growing", "seed": ("1,1,1",), "tta": True}, "--tta: for networks "),
        ({"method": "region-growing", "seed": ("1,1,1",), "fusion": "joint"}, "--fusion: for atlases only"),
        ({"method": "region-growing", "seed": ("1,1,1",), "probabilities": True}, "have none"),
        ({"method": "region-growing", "seed": ("1,1,1",), "validation": True}, "--validation"),
        ({"method": "region-growing", "seed": ("1,1,1",), "masks": Path("none")}, "no such file"),
    ],
)
def test_segment_refuses(balls: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Segment.of((balls,), tmp_path / "out", **options).run()


def test_runs_are_not_mixed(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "copy")
    with pytest.raises(OptionError, match="name one"):
        Segment.of((run, tmp_path / "copy"), tmp_path / "out").run()
    with pytest.raises(OptionError, match="--workers: for atlases, "):
        Segment.of((run,), tmp_path / "out", validation=True, workers=2).run()


def test_bad_training_data(build: Any, tmp_path: Path) -> None:
    folder = build.folders(3)
    build.volume(folder / "labels/b.nii.gz", 0 * build.labels())
    with pytest.raises(DatasetError, match=r"labels/b\.nii\.gz: no voxel is labelled"):
        Train.of(folder, tmp_path / "run", method="kmeans", folds=1).run()
    assert not (tmp_path / "run").exists()


class _Bomb:
    def __reduce__(self) -> Any:
        return (print, ("boom",))


def spoil(run: Path, how: str) -> None:
    settings, arrays = run / "configs" / "classical.json", run / "models" / "classical.npz"
    content = json.loads(settings.read_text())
    learnt = dict(np.load(arrays))
    if how == "version":
        content["version"] = 1
    elif how == "option":
        content["options"]["colour"] = 1
    elif how == "method":
        content["method"] = "os.system"
    elif how == "entry":
        content["code"] = "import os"
    elif how == "pickle":
        learnt["naming/votes"] = np.array([_Bomb()], dtype=object)
    elif how == "missing":
        del learnt["naming/votes"]
    elif how == "shape":
        learnt["location/lattice"] = learnt["location/lattice"][:2]
    elif how == "nan":
        learnt["naming/scale"] = learnt["naming/scale"] * np.nan
    settings.write_text(json.dumps(content))
    if how == "no-file":
        arrays.unlink()
    elif how == "truncated":
        arrays.write_bytes(arrays.read_bytes()[:1000])
    else:
        np.savez(arrays, **learnt)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("version", PlanError, "version 1, this atlaseg reads 2"),
        ("option", PlanError, "no option 'colour'"),
        ("method", PlanError, "no classical method 'os.system'"),
        ("entry", PlanError, "code: no such entry"),
        ("pickle", UnsafeModelError, "Python objects"),
        ("missing", UnreadableFileError, "naming/votes is missing"),
        ("shape", UnreadableFileError, "location/lattice has shape"),
        ("nan", UnreadableFileError, "finite"),
        ("no-file", MissingFileError, "not whole"),
        ("truncated", UnreadableFileError, "truncated"),
    ],
)
def test_spoilt_runs(
    run: Path, tmp_path: Path, how: str, error: type[AtlasegError], message: str, capsys: Any
) -> None:
    shutil.copytree(run, tmp_path / "run")
    spoil(tmp_path / "run", how)
    with pytest.raises(error, match=message) as caught:
        ClassicalSegmenter.load(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert "boom" not in capsys.readouterr().out


@pytest.mark.thorough
def test_benchmark(shapes_folder: Path, tmp_path: Path, capsys: Any) -> None:
    job = ClassicalBenchmark(shapes_folder, tmp_path, methods=("prior", "kmeans:clusters=3"), first=4, last=1)
    assert job.run() == 0
    assert "s per case" in capsys.readouterr().out
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["method", "prior", "kmeans:clusters=3"]
    with pytest.raises(OptionError, match="not known"):
        ClassicalBenchmark(shapes_folder, tmp_path, methods=("magic",)).run()
    with pytest.raises(OptionError, match="choose fewer"):
        ClassicalBenchmark(shapes_folder, tmp_path, methods=("prior",), first=4, last=4).run()


@pytest.mark.slow
def test_benchmark_beside_atlases(shapes_folder: Path, tmp_path: Path) -> None:
    job = ClassicalBenchmark(shapes_folder, tmp_path, methods=("prior", "majority"), first=2, last=1)
    assert job.run() == 0
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["method", "prior", "majority"]


@pytest.mark.thorough
def test_training_prints_what_it_chose(shapes_folder: Path, tmp_path: Path, capsys: Any) -> None:
    words = ("restarts=1", "max_samples=2000")
    assert Train.of(shapes_folder, tmp_path / "run", method="kmeans", option=words).run() == 0
    assert "Chosen by scans held out of the training: clusters=" in capsys.readouterr().out
    settings = json.loads((tmp_path / "run" / "configs" / "classical.json").read_text())
    assert settings["options"]["clusters"] in CLUSTERS
