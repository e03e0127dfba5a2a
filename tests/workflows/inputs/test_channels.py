"""Channels from options, from names and from intensities, in every job that takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.planning.plan_file import load_plan
from atlaseg.workflows.benchmark import Benchmark
from atlaseg.workflows.check import Check
from atlaseg.workflows.plan import MakePlan
from atlaseg.workflows.train import Train


@pytest.fixture
def ct(build: Any) -> Path:
    """Three CT of soft tissue with fat in air, ``(24, 24, 24)``, without names of channels."""
    rng = np.random.default_rng(0)
    inside = np.zeros((24, 24, 24), np.uint8)
    inside[6:18, 6:18, 4:20] = 1
    for name in "abc":
        voxels = np.full(inside.shape, -1000.0)
        voxels[4:20, 4:20, 2:22] = -100
        voxels[inside > 0] = 45
        voxels += rng.normal(0, 8, voxels.shape)
        build.volume(build.folder / f"images/{name}.nii.gz", voxels.round().astype(np.int16))
        build.volume(build.folder / f"labels/{name}.nii.gz", inside)
    return build.json("labels.json", {"liver": 1})


def plan_of(folder: Path, tmp_path: Path, *channels: str) -> Any:
    out = tmp_path / "plan.yaml"
    assert MakePlan(folder, out, device="cpu", epochs=1, channels=channels).run() == 0
    return load_plan(out)


def test_check_says_what_is_assumed_and_why(ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Check(ct, json=True).run() == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["channels"], found["channels_named_by"], found["modality"]) == (["CT"], None, "CT")
    assert "like Hounsfield units in 3 of 3 scans" in found["modality_reason"]
    (problem,) = found["problems"]
    assert (problem["severity"], problem["kind"]) == ("warning", "modality")
    assert "channels.json" in problem["message"]
    assert Check(ct).run() == 0
    assert "treated as" in capsys.readouterr().out


def test_check_doubts_names_that_intensities_do_not_suit(
    ct: Path, build: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    build.json("channels.json", ["T1"])
    assert Check(ct).run() == 0
    assert (
        "warning channels.json: channel T1: intensities are like Hounsfield units in 3 of 3"
        in capsys.readouterr().out
    )
    build.json("channels.json", ["CT"])
    for name in "abc":
        build.volume(ct / f"images/{name}.nii.gz", np.random.default_rng(0).normal(500, 50, (24, 24, 24)))
    assert Check(ct).run() == 0
    assert (
        "warning channels.json: channel CT: intensities are unlike Hounsfield units"
        in capsys.readouterr().out
    )


def test_plan_normalises_unnamed_ct_and_says_so(ct: Path, tmp_path: Path, capsys: Any) -> None:
    plan = plan_of(ct, tmp_path)
    assert (plan.channels, plan.normalisation.kind) == (("CT",), "clip-scale")
    said = capsys.readouterr().err
    assert said.startswith(
        "Channels: CT, treated as CT: no name is given for the channel, and intensities are like"
    )
    assert plan.reasons["channels"] in said


def test_the_option_wins_over_intensities(ct: Path, tmp_path: Path, capsys: Any) -> None:
    plan = plan_of(ct, tmp_path, "T2")
    assert (plan.channels, plan.normalisation.kind) == (("T2",), "zscore")
    assert "named by --channels; channel T2: intensities are like Hounsfield units" in capsys.readouterr().err


def test_the_option_wins_over_the_file_and_says_so(ct: Path, build: Any, tmp_path: Path, capsys: Any) -> None:
    build.json("channels.json", ["MRI"])
    plan = plan_of(ct, tmp_path, "CT")
    assert (plan.channels, plan.normalisation.kind) == (("CT",), "clip-scale")
    assert "named by --channels, where channels.json says MRI" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [("CT", "T2"), (" ",)])
def test_another_number_of_names_is_refused(ct: Path, tmp_path: Path, channels: tuple[str, ...]) -> None:
    with pytest.raises(
        OptionError, match=r"--channels .* have 1 channel\(s\) \(MRI\); give one name for each"
    ):
        MakePlan(ct, tmp_path / "plan.yaml", device="cpu", channels=channels).run()
    assert not (tmp_path / "plan.yaml").exists()


def test_training_says_and_keeps_what_is_assumed(
    ct: Path, tmp_path: Path, tiny: Any, capsys: Any, runs: Any
) -> None:
    out = tmp_path / "run"
    job = Train.of(ct, out, folds=3, epochs=1, override=tiny, tracking="none", device="cpu")
    runs.prepare(job)
    assert capsys.readouterr().err.startswith("Channels: CT, treated as CT: no name is given for the channel")
    plan = load_plan(out / "configs" / "plan.yaml")
    assert (plan.channels, plan.normalisation.kind) == (("CT",), "clip-scale")


def test_training_by_a_plan_takes_the_names_of_the_plan(
    ct: Path, tmp_path: Path, capsys: Any, runs: Any
) -> None:
    plan_of(ct, tmp_path, "T2")
    capsys.readouterr()
    job = Train.of(ct, tmp_path / "run", folds=3, plan=tmp_path / "plan.yaml", tracking="none", device="cpu")
    runs.prepare(job)
    assert capsys.readouterr().err.startswith("Channels: T2, treated as MRI: named by --plan\nwarning: ")
    with pytest.raises(OptionError, match="--plan already says what --channels would"):
        Train.of(
            ct, tmp_path / "other", folds=3, plan=tmp_path / "plan.yaml", channels=("CT",), device="cpu"
        ).run()


@pytest.mark.thorough
def test_classical_methods_keep_the_names(ct: Path, tmp_path: Path, capsys: Any) -> None:
    for name, channels, expected in (("assumed", (), "CT"), ("asked", ("T2",), "T2")):
        out = tmp_path / name
        assert Train.of(ct, out, method="kmeans", folds=1, channels=channels).run() == 0
        assert json.loads((out / "configs" / "classical.json").read_text())["channels"] == [expected]
        assert f"Channels: {expected}, treated as" in capsys.readouterr().err
        assert Train.of(ct, out, method="kmeans", folds=1, channels=channels).run() == 0  # finished


def test_atlases_keep_names_and_make_none_up(ct: Path, tmp_path: Path) -> None:
    assert Train.of(ct, tmp_path / "plain", method="majority", folds=1).run() == 0
    copies = next((tmp_path / "plain").rglob("atlases.json")).parent
    assert not (copies / "channels.json").exists()
    assert read_dataset(copies).channels_named_by is None
    assert Train.of(ct, tmp_path / "named", method="majority", folds=1, channels=("CT",)).run() == 0
    copies = next((tmp_path / "named").rglob("atlases.json")).parent
    assert json.loads((copies / "channels.json").read_text()) == ["CT"]


def test_a_benchmark_gives_every_method_the_same(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def not_begun(self: Benchmark, cells: Any, *_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Benchmark, "_run_cells", not_begun)
    job = Benchmark(ct, methods=("kmeans",), out=tmp_path / "out", folds=3)
    with pytest.raises(KeyboardInterrupt):
        job.run()
    views = list((tmp_path / "out" / "folds" / "training").rglob("channels.json"))
    assert len(views) == 3
    assert {view.read_text() for view in views} == {'["CT"]\n'}
    assert "Channels: CT, treated as CT" in capsys.readouterr().err
    with pytest.raises(OptionError, match="another --channels"):
        Benchmark(ct, methods=("kmeans",), out=tmp_path / "out", folds=3, channels=("T1",)).run()
