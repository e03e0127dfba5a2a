"""The command ``train`` for networks: its output, resumption, and errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlaseg.pipeline.bundle_scripts import script_files
from atlaseg.pipeline.errors import DatasetError, DivergenceError, MissingFileError, OptionError, PlanError
from atlaseg.pipeline.training.checkpoint import read_torch_file
from atlaseg.workflows.cli import main
from atlaseg.workflows.train import Train
from tests.workflows.trained import command, same_weights, timeless


@pytest.mark.thorough
def test_output_files(tiny_run: Path) -> None:
    found = {str(p.relative_to(tiny_run)) for p in tiny_run.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    configs = {"train", "inference", "evaluate", "multi_gpu_train", "plan"}
    assert found == {
        *(f"configs/{name}.yaml" for name in configs),
        *(f"configs/{name}.json" for name in ("metadata", "cases", "request")),
        "configs/logging.conf",
        *(f"scripts/{name}" for name in script_files()),
        *("models/model.pt", "models/checkpoint.pt", "history.json", "curves.png", "overlay.png"),
    }
    rows = json.loads((tiny_run / "history.json").read_text())
    assert [(row["epoch"], row["iteration"]) for row in rows] == [(1, 2), (2, 4)]
    assert all(0 <= row["val_dice"] <= 1 for row in rows)


def test_folds_do_not_overlap(tiny_run: Path, shapes_folder: Path) -> None:
    cases = json.loads((tiny_run / "configs" / "cases.json").read_text())
    training, validation = ({case["name"] for case in cases[k]} for k in ("training", "validation"))
    assert not training & validation
    assert training | validation == {f"shapes_{i:03d}" for i in range(5)}
    assert all((shapes_folder / case["label"]).is_file() for case in cases["training"])


@pytest.mark.thorough
def test_same_seed_same_weights_another_seed_others(runs: Any, tiny_run: Path, tmp_path: Path) -> None:
    assert same_weights(runs.train(tmp_path / "again"), tiny_run)
    assert timeless(tmp_path / "again") == timeless(tiny_run)
    assert not same_weights(runs.train(tmp_path / "other", seed=1), tiny_run)


@pytest.mark.thorough
def test_cases_kept_on_disk_give_the_same(runs: Any, tiny_run: Path, tmp_path: Path) -> None:
    run = runs.train(tmp_path / "disk", "training.cache=disk")
    assert same_weights(run, tiny_run)
    assert len(list((run / "cache").iterdir())) == 5


@pytest.mark.thorough
def test_a_finished_run_is_left_alone(
    runs: Any, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = (run / "models" / "model.pt").stat().st_mtime_ns
    assert runs.job(run).run() == 0
    captured = capsys.readouterr()
    assert "already finished after epoch 2; nothing to do" in captured.err
    assert "Trained 4 iterations" in captured.out
    assert (run / "models" / "model.pt").stat().st_mtime_ns == before


@pytest.mark.thorough
def test_configs_of_something_else(runs: Any, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "site.yaml").touch()
    with pytest.raises(OptionError, match="not empty and not a run"):
        runs.job(tmp_path).run()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 5}, "seed"),
        ({"epochs": 3}, "epochs"),
        ({"fold": 1, "method": "fcn"}, "method, fold"),
        ({"overrides": ("training.learning_rate=0.5",)}, "override"),
    ],
)
def test_another_command_on_the_same_folder(
    runs: Any, tiny_run: Path, changes: dict[str, Any], named: str
) -> None:
    changes = dict(changes)
    with pytest.raises(OptionError, match=rf"holds a run with another {named}; give the same options"):
        runs.job(tiny_run, *changes.pop("overrides", ()), **changes).run()


@pytest.mark.thorough
def test_tracking_and_device_may_change(runs: Any, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    assert runs.job(tmp_path / "run", device="auto").run() == 0


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fold": 5}, OptionError, "choose 0 to 4"),
        ({"fold": -1}, OptionError, "--fold must be at least 0"),
        ({"minutes": 1.0}, OptionError, "either --epochs or --minutes"),
        ({"device": "tpu"}, OptionError, "no device 'tpu'"),
        ({"overrides": ("training.precision=fp16",)}, OptionError, "fp16 needs a GPU"),
        ({"overrides": ("prior.source=atlases",)}, PlanError, "prior.source: atlases, but no prior is made"),
        ({"overrides": ("reasons=3",)}, PlanError, "override reasons: no such entry"),
        ({"overrides": (f"training.seed={2**70}",)}, PlanError, "training.seed must be at least 0"),
        (
            {"overrides": ("network.dropout=5",)},
            PlanError,
            "network.dropout must be at least 0 and less than 1",
        ),
        ({"overrides": ("spacing=1e-6",)}, PlanError, "override spacing: expected a list of 3"),
        ({"overrides": ("spacing=[1e-6,1,1]",)}, PlanError, "spacing must be at least 0.001"),
        ({"overrides": ("channels=[]",)}, PlanError, "channels: name at least one"),
        ({"method": "unet++"}, OptionError, "unet"),
        ({"memory": "much"}, OptionError, "much"),
        ({"plan": Path("missing.yaml"), "epochs": None}, MissingFileError, "no such plan"),
        ({"plan": Path("missing.yaml")}, OptionError, "--plan already says what --epochs would"),
        (
            {"plan": Path("p"), "epochs": None, "method": "unet"},
            OptionError,
            "--plan already says what --method",
        ),
    ],
)
def test_refuses_options(
    runs: Any, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    options = dict(options)
    with pytest.raises(error, match=message):
        runs.job(tmp_path / "run", *options.pop("overrides", ()), **options).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("override", "error"),
    [("training.speed=3", (OptionError, PlanError)), ("training.batch_size=two", PlanError)],
)
def test_refuses_overrides(runs: Any, tmp_path: Path, override: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=override.split("=", maxsplit=1)[0].rsplit(".", 1)[1]):
        runs.job(tmp_path / "run", override).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_follows_a_plan(runs: Any, tiny_run: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    shutil.copy(tiny_run / "configs" / "plan.yaml", plan)
    job = Train.of(runs.dataset, tmp_path / "run", plan=plan, tracking="none", device="cpu")
    job.run()
    assert same_weights(tmp_path / "run", tiny_run)
    plan.write_text(plan.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(OptionError, match="another plan"):
        job.run()


@pytest.mark.thorough
def test_bad_data_is_refused_before_anything_is_written(build: Any, tmp_path: Path) -> None:
    folder = build.decathlon(count=5)
    build.volume(folder / "labelsTr/c.nii.gz", build.labels() + np.uint8(1))
    (folder / "labelsTr/d.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"labelsTr/.*more problem"):
        Train.of(folder, tmp_path / "run", epochs=1, tracking="none").run()
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_a_data_set_that_has_moved(runs: Any, shapes_folder: Path, tmp_path: Path, capsys: Any) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(shapes_folder, data)
    job = Train.of(
        data, run, epochs=2, tracking="none", device="cpu", override=runs.job(run).network.override
    )
    runs.prepare(job)
    (data / "imagesTr" / "shapes_001.nii.gz").unlink()
    with pytest.raises(MissingFileError, match=r"shapes_001\.nii\.gz: no such file"):
        job.run()


@pytest.mark.thorough
@pytest.mark.parametrize("file", ["configs/request.json", "models/checkpoint.pt"])
def test_damaged_files_of_the_run(
    runs: Any, tiny_run: Path, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / file).write_bytes((run / file).read_bytes()[:100])
    assert main(command(runs.job(run))[3:]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"atlaseg train: {run / file}: not ")


@pytest.mark.thorough
def test_out_that_cannot_be_made(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(command(runs.job(tmp_path / "file"))[3:]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.thorough
def test_diverging_training_says_what_to_do(runs: Any, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"lower training\.learning_rate"):
        runs.train(
            tmp_path / "run",
            "training.learning_rate=1e30",
            "training.gradient_clip=null",
            "training.optimizer=sgd",
            epochs=5,
        )


@pytest.mark.thorough
def test_minutes(runs: Any, tmp_path: Path) -> None:
    run = runs.train(tmp_path / "run", epochs=None, minutes=0.01)
    rows = json.loads((run / "history.json").read_text())
    assert rows[-1]["seconds"] >= 0.6
    assert "val_dice" in rows[-1]
    assert rows[-1]["lr"] < rows[0]["lr"]
    state = read_torch_file(run / "models" / "checkpoint.pt")
    assert state["parts"]["keeper"]["finished"]


@pytest.mark.thorough
def test_early_stopping(runs: Any, tmp_path: Path) -> None:
    run = runs.train(
        tmp_path / "run",
        "training.early_stopping=1",
        "training.learning_rate=1e-12",
        "training.warmup=0",
        epochs=50,
    )
    assert len(timeless(run)) < 50
    assert read_torch_file(run / "models" / "checkpoint.pt")["parts"]["keeper"]["finished"]


@pytest.mark.thorough
def test_command_line(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = runs.job(tmp_path / "run")
    assert main(command(job)[3:]) == 0
    assert "Trained 4 iterations" in capsys.readouterr().out
    assert main([*command(job)[3:], "--seed", "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"atlaseg train: {tmp_path / 'run'}: holds a run with another seed;")
