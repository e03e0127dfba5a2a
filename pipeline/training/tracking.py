"""Experiment tracking: MLflow on a local file, with telemetry off."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atlaseg.pipeline.errors import UnreadableFileError
from atlaseg.pipeline.failures import first_line, root_cause
from atlaseg.pipeline.io.files import replacing
from atlaseg.pipeline.io.full_disk import is_full

__all__ = ["flatten", "mlflow_tracking"]

#: Where MLflow's server looks for files: below its ``--artifacts-destination``.
_ARTIFACTS = "mlflow-artifacts:/"


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


def _uri(path: Path) -> str:
    """URI of a SQLite file; few signs are replaced, since MLflow makes a folder of the name as it stands here."""
    return "sqlite:///" + "".join(
        f"%{ord(sign):02X}" if sign in "%?#" else sign for sign in path.absolute().as_posix()
    )


def mlflow_tracking(
    folder: str, run_name: str, plan: dict[str, Any], architecture: dict[str, Any], artifacts: list[str]
) -> Any:
    """MONAI's ``MLFlowHandler`` with a sqlite file in the run's folder; nothing leaves the machine.

    Parameters are the plan and the network; metrics are those of each epoch; the plan's YAML and the pictures are
    stored at the end. A resumed run continues the same MLflow run. The database holds no path of this machine, so that
    the run may move: files lie in ``RUN/mlflow/artifacts``. Look at it with ``mlflow ui --backend-store-uri
    sqlite:///RUN/mlflow/mlruns.db --artifacts-destination RUN/mlflow/artifacts``.

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

    class Tracking(MLFlowHandler):
        """Files go where the server looks for them, which a client without a server cannot do."""

        def complete(self) -> None:
            if self.cur_run is None:
                return
            target = Path(folder) / "artifacts" / self.cur_run.info.run_id / "artifacts"
            target.mkdir(parents=True, exist_ok=True)
            for artifact in self._parse_artifacts():
                shutil.copyfile(artifact, target / Path(artifact).name)

    database = Path(folder) / "mlruns.db"
    _make_database(database)
    reasonless = {key: value for key, value in plan.items() if key != "reasons"}
    settings: dict[str, Any] = {
        "tracking_uri": _uri(database),
        "artifact_location": _ARTIFACTS,
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
        with _without("MLFLOW_TRACKING_URI"):  # MONAI would prefer a server named there to the run's own file
            return Tracking(**settings)
    except Exception as error:  # any of its layers may raise, down to sqlite
        if is_full(error, database):
            raise
        raise UnreadableFileError(
            f"{database}: MLflow cannot open it ({first_line(root_cause(error))}); move it away, or continue with "
            "--tracking none"
        ) from error


def _make_database(path: Path) -> None:
    """Let MLflow make its tables in a file that takes its place when they are complete.

    It makes them in many steps, and opens no file in which some are missing: one that was interrupted by a full disk or
    a kill would never be opened again.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if path.is_file():
        return
    logging.getLogger("mlflow.store.db.utils").setLevel(
        logging.WARNING
    )  # otherwise it logs every table that it creates
    with replacing(path) as new:
        # MLflow's client would write the current folder into it, as the place of files
        SqlAlchemyStore(_uri(new), _ARTIFACTS)._dispose_engine()


@contextmanager
def _without(variable: str) -> Iterator[None]:
    """The environment without a variable, for a while."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value
