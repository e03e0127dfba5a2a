"""A training that was interrupted, killed or spread over processes ends as one that was not."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atlaseg.pipeline.training import checkpoint
from atlaseg.pipeline.training.clipping import GradientClipping
from atlaseg.pipeline.training.kept_checkpoint import ModelKeeper
from atlaseg.pipeline.training.pictures import RunPictures
from tests.workflows.trained import command, same_weights, timeless, weights


class Interruption:
    """Ctrl-C in a given step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        clip = GradientClipping._clip
        self.left = step

        def counting(handler: GradientClipping, engine: Any) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            clip(handler, engine)

        monkeypatch.setattr(GradientClipping, "_clip", counting)


CHOICES = {
    "default": (),
    "everything-with-a-state": (
        "training.ema=0.9",
        "training.schedule=plateau",
        "training.optimizer=sgd",
        "training.learning_rate=0.01",
        "network.dropout=0.3",
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("overrides", CHOICES.values(), ids=CHOICES)
def test_resumes_after_an_interruption_to_the_same_result(
    runs: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: tuple[str, ...],
) -> None:
    whole = runs.train(tmp_path / "whole", *overrides, epochs=4)
    job = runs.job(tmp_path / "cut", *overrides, epochs=4)
    with monkeypatch.context() as patched:
        Interruption(patched, step=6)  # the last of the third epoch
        with pytest.raises(KeyboardInterrupt):
            job.run()
    torch.manual_seed(12345)  # whatever happened in between
    capsys.readouterr()
    assert job.run() == 0
    said = capsys.readouterr().err
    assert "Resuming in" in said
    assert "Resuming after epoch 1 (checkpoint.pt)" in said
    assert same_weights(tmp_path / "cut", whole)
    assert timeless(tmp_path / "cut") == timeless(whole)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "where", [(ModelKeeper, "_finish"), (RunPictures, "draw")], ids=["keeper", "pictures"]
)
@pytest.mark.parametrize("overrides", [(), ("training.validate_every=3",)], ids=["each", "third"])
def test_interrupted_after_the_last_epoch(
    runs: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: tuple[type, str],
    overrides: tuple[str, ...],
) -> None:
    """The last checkpoint then says that there is more to do, but the engine has no epoch to go."""
    clock = itertools.count(step=1000)  # a checkpoint is due after every epoch
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    whole = runs.train(tmp_path / "whole", *overrides, epochs=4)
    job = runs.job(tmp_path / "cut", *overrides, epochs=4)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*where, interrupt)
        with pytest.raises(KeyboardInterrupt):
            job.run()
    job.run()
    assert same_weights(tmp_path / "cut", whole)
    assert timeless(tmp_path / "cut") == timeless(whole)
    assert (tmp_path / "cut" / "overlay.png").is_file()


@pytest.mark.thorough
def test_killed_while_the_configs_were_written(runs: Any, tiny_run: Path, tmp_path: Path) -> None:
    """There is no request yet: the run is begun anew."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run / "configs", run / "configs")
    (run / "configs" / "request.json").unlink()
    (run / "configs" / "plan.yaml").write_text("broken")
    (run / "configs" / ".writing-abc.json").write_text("{")
    runs.train(run)
    assert same_weights(run, tiny_run)


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_resumes_after_kill_9(runs: Any, tmp_path: Path) -> None:
    cut, whole = (runs.job(tmp_path / name, epochs=40) for name in ("cut", "whole"))
    process = subprocess.Popen(command(cut), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (cut.out / "models" / "checkpoint.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (cut.out / "curves.png").exists()  # it was in the middle
    second = subprocess.run(command(cut), env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "Resuming after epoch" in second.stderr
    subprocess.run(command(whole), env=ENVIRONMENT, capture_output=True, check=True)
    assert same_weights(cut.out, whole.out)
    assert timeless(cut.out) == timeless(whole.out)


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["epochs", "minutes"])
def test_two_processes_train_together(runs: Any, tmp_path: Path, budget: str) -> None:
    """With gloo on CPUs; both end, the first writes, the gradients of both count."""
    run = tmp_path / "run"
    options: dict[str, Any] = {"epochs": 3} if budget == "epochs" else {"epochs": None, "minutes": 0.03}
    job = runs.job(run, "training.early_stopping=30", folds=2, **options)
    runs.prepare(job)
    configs = [str(run / "configs" / name) for name in ("train.yaml", "multi_gpu_train.yaml")]
    together = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "monai.bundle", "run", "--config_file", str(configs), "--tracker", "none"),
    ]
    done = subprocess.run(together, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr  # torchrun fails where one process does
    assert done.stderr.count("  epoch 1  loss") == 1  # one voice
    assert weights(run)
    history = json.loads((run / "history.json").read_text())
    assert [(row["epoch"], row["iteration"]) for row in history] == [
        (n, 2 * n) for n in range(1, len(history) + 1)
    ]
    if budget == "epochs":
        assert len(history) == 3
    else:  # both stop in the same epoch, the first that ends after the time
        assert history[-1]["seconds"] >= 60 * 0.03
        assert all(row["seconds"] < 60 * 0.03 for row in history[:-1])
    again = subprocess.run(together, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=True)
    assert "already finished" in again.stderr
    if budget == "epochs":
        alone = runs.train(tmp_path / "alone", "training.early_stopping=30", folds=2, **options)
        assert not same_weights(alone, run)
        assert timeless(alone)[0]["val_dice"] != pytest.approx(history[0]["val_dice"], abs=1e-12)
