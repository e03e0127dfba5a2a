"""Tracking with MLflow on a local file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from atlaseg.pipeline.training.tracking import flatten, mlflow_tracking


def test_flatten() -> None:
    assert flatten({}) == {}
    assert flatten({"a": {"b": {"c": None}}, "d": (1,)}) == {"a.b.c": None, "d": (1,)}


@pytest.mark.slow
def test_sqlite_file_with_parameters_metrics_and_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from ignite.engine import Events
    from monai.engines import SupervisedTrainer

    monkeypatch.chdir(tmp_path)  # nothing may land in the current folder
    folder = tmp_path / "größe 1, @x" / "mlflow"
    artifact = tmp_path / "plan.yaml"
    artifact.write_text("x: 1\n")

    def train(interrupted: bool) -> None:
        network = torch.nn.Linear(1, 1)
        handler = mlflow_tracking(
            str(folder),
            "first",
            {"training": {"seed": 3}, "reasons": {"a": "b" * 9000}},
            {"_target_": "UNet", "channels": "[4, 8]"},
            [str(artifact), str(tmp_path / "missing.png")],
        )
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=2,
            train_data_loader=[{"image": torch.ones(1, 1), "label": torch.ones(1, 1)}],
            network=network,
            optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
            loss_function=torch.nn.MSELoss(),
            train_handlers=[handler],
            decollate=False,
        )
        trainer.state.metrics["loss"] = 0.5
        if interrupted:
            trainer.add_event_handler(Events.EPOCH_COMPLETED, interrupt)
        trainer.run()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(interrupted=True)
    train(interrupted=False)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert (folder / "mlruns.db").is_file()
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns.db'}")
    experiment = client.get_experiment_by_name("atlaseg")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["training.seed"] == "3"
    assert run.data.params["architecture.target"] == "UNet"
    assert not any(name.startswith("reasons") for name in run.data.params)
    assert "loss" in run.data.metrics
    # no path of this machine, nor its user: the run may move
    assert run.info.artifact_uri == f"mlflow-artifacts:/{run.info.run_id}/artifacts"
    assert (folder / "artifacts" / run.info.run_id / "artifacts" / "plan.yaml").read_text() == "x: 1\n"
    assert str(tmp_path).encode() not in (folder / "mlruns.db").read_bytes()
    assert run.info.user_id in (None, "unknown")
    assert {p.name for p in tmp_path.iterdir()} == {"größe 1, @x", "plan.yaml"}
