"""Experiment tracking: MLflow on a local file, with telemetry off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["flatten", "mlflow_tracking"]


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping as one level with dotted names.

    >>> flatten({"a": {"b": 1}, "c": [2, 3]})
    {'a.b': 1, 'c': [2, 3]}
    """
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def mlflow_tracking(
    folder: str, run_name: str, plan: dict[str, Any], architecture: dict[str, Any], artifacts: list[str]
) -> Any:
    """MONAI's ``MLFlowHandler`` with a sqlite file in the run's folder; nothing leaves the machine.

    Parameters are the plan and the network; metrics are those of each epoch; the plan's YAML and the pictures are
    stored at the end. A resumed run goes on in the same MLflow run. Look at it with
    ``mlflow ui --backend-store-uri sqlite:///RUN/mlflow/mlruns.db``.

    Args:
        folder: where the sqlite file and the artifacts go.
        run_name: shown in MLflow.
        plan: the plan as nested mappings.
        architecture: the network's bundle component.
        artifacts: files to store at the end, where they exist.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported
    from monai.handlers import MLFlowHandler
    from monai.utils import path_to_sqlite_uri, path_to_uri

    Path(folder).mkdir(parents=True, exist_ok=True)
    reasonless = {key: value for key, value in plan.items() if key != "reasons"}
    return MLFlowHandler(
        tracking_uri=path_to_sqlite_uri(str(Path(folder) / "mlruns.db")),
        # by itself MONAI takes the folder of the database as it is written in the URI, "%20" and all
        artifact_location=path_to_uri(Path(folder) / "mlruns"),
        experiment_name="atlaseg",
        run_name=run_name,
        experiment_param={
            **flatten(reasonless),
            **flatten({k.strip("_"): v for k, v in architecture.items()}, "architecture."),
        },
        artifacts=artifacts,
        iteration_log=False,
        epoch_log=True,
        close_on_complete=True,
    )
