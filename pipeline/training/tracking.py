"""Experiment tracking: MLflow on a local file, with telemetry off."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from pipeline.errors import UnreadableFileError
from pipeline.failures import first_line, root_cause
from pipeline.files import replacing
from pipeline.full_disk import is_full

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

    Raises:
        UnreadableFileError: there is a database that MLflow cannot open.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported
    from monai.handlers import MLFlowHandler
    from monai.utils import path_to_sqlite_uri, path_to_uri

    database = Path(folder) / "mlruns.db"
    _make_database(database)
    reasonless = {key: value for key, value in plan.items() if key != "reasons"}
    settings: dict[str, Any] = {
        "tracking_uri": path_to_sqlite_uri(str(database)),
        # by itself MONAI takes the folder of the database as it is written in the URI, "%20" and all
        "artifact_location": path_to_uri(Path(folder) / "mlruns"),
        "experiment_name": "atlaseg",
        "run_name": run_name,
        "experiment_param": {
            **flatten(reasonless),
            **flatten({k.strip("_"): v for k, v in architecture.items()}, "architecture."),
        },
        "artifacts": artifacts,
        "iteration_log": False,
        "epoch_log": True,
        "close_on_complete": True,
    }
    try:
        return MLFlowHandler(**settings)
    except Exception as error:  # whatever its layers raise, down to sqlite
        if is_full(error, database):
            raise
        raise UnreadableFileError(
            f"{database}: MLflow cannot open it ({first_line(root_cause(error))}); move it away, or go on with "
            "--tracking none"
        ) from error


def _make_database(path: Path) -> None:
    """Let MLflow make its tables in a file that takes its place when they are complete.

    It makes them in many steps, and opens no file in which some are missing: one that was interrupted by a full disk or
    a kill would never be opened again.
    """
    from mlflow import MlflowClient
    from monai.utils import path_to_sqlite_uri

    if path.is_file():
        return
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # that it makes tables is no news
    with replacing(path) as new:
        MlflowClient(tracking_uri=path_to_sqlite_uri(str(new))).search_experiments(max_results=1)
