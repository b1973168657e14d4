"""Audits in MLflow (extra ``[mlflow]``)."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.loggers.csv import write_files
from lightning_memaudit.loggers.payload import Payload, payload_of
from lightning_memaudit.loggers.walk import PREFIX, flat

if TYPE_CHECKING:
    from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["log_to_mlflow", "log_to_mlflow_run"]

_BATCH = 500
_LONGEST_TAG = 5000


def log_to_mlflow(report: AuditReport | Payload, *, tracking_uri: str, experiment: str) -> str:
    """Log a report to a new run, and end it.

    Args:
        report: The report, or its ``payload_of`` where several loggers take it.
        tracking_uri: A server, ``"http://localhost:5000"``, or a database, ``"sqlite:///mlflow.db"``.
        experiment: Name of the experiment; made when there is none.

    Returns:
        The id of the run.

    Raises:
        ConfigurationError: MLflow is not installed, or refused the experiment.
    """
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise ConfigurationError("MLflow is not installed; pip install 'lightning-memaudit[mlflow]'") from error
    payload = payload_of(report)
    try:
        client = MlflowClient(tracking_uri)
        known = client.get_experiment_by_name(experiment)
        experiment_id = client.create_experiment(experiment) if known is None else known.experiment_id
        run_id = str(client.create_run(experiment_id, run_name=payload.name).info.run_id)
    except MlflowException as error:
        raise ConfigurationError(
            f"tracking_uri={tracking_uri!r}, experiment={experiment!r}: MLflow refused the run ({error}); a server "
            "needs to be up, and a database such as sqlite:///mlflow.db needs pip install mlflow"
        ) from error
    log_to_mlflow_run(payload, client, run_id)
    client.set_terminated(run_id)
    return run_id


def log_to_mlflow_run(payload: Payload, client: Any, run_id: str) -> None:
    """Log to a run and leave it as it is; steps are numbers of models.

    What describes the audit becomes tags, which a grown audit may change; a parameter is for ever.
    """
    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    metrics = [
        Metric(name, value, now, payload.n_models) for name, value in (payload.scalars | payload.group_scalars).items()
    ]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    described = flat(payload.config) | {"audit": payload.name, "summary": payload.summary}
    tags = [RunTag(f"{PREFIX}.{key.replace('/', '.')}", str(value)[:_LONGEST_TAG]) for key, value in described.items()]
    client.log_batch(run_id, tags=tags)
    with TemporaryDirectory() as folder:
        write_files(payload, Path(folder))
        client.log_artifacts(run_id, folder, PREFIX)
