"""Which sink a Lightning logger takes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.loggers.csv import log_to_csv_logger
from lightning_memaudit.loggers.mlflow import log_to_mlflow_run
from lightning_memaudit.loggers.payload import payload_of
from lightning_memaudit.loggers.tensorboard import log_to_writer
from lightning_memaudit.loggers.wandb import log_to_run

if TYPE_CHECKING:
    from lightning_memaudit.loggers.payload import Payload
    from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["log_report"]


def log_report(report: AuditReport | Payload, logger: Logger) -> None:
    """Log a report with a Lightning logger, on rank zero alone; what the logger has open stays open.

    Args:
        report: The report, or its ``payload_of`` where several loggers take it.
        logger: A ``WandbLogger``, ``TensorBoardLogger``, ``MLFlowLogger`` or ``CSVLogger``; any other one is given the
            scalars.

    Raises:
        ArgumentError: It is no logger of ``lightning.pytorch``.

    Example:
        ``log_report(audit.run(), WandbLogger(project="cifar"))``
    """
    if not isinstance(logger, Logger):
        raise argument_error(
            "logger", logger, "a logger of lightning.pytorch.loggers is needed, such as CSVLogger('logs')"
        )
    if getattr(rank_zero_only, "rank", 0) != 0:
        return
    payload = payload_of(report)
    if isinstance(logger, WandbLogger):
        log_to_run(payload, logger.experiment)
    elif isinstance(logger, TensorBoardLogger):
        log_to_writer(payload, logger.experiment)
    elif isinstance(logger, MLFlowLogger):
        log_to_mlflow_run(payload, logger.experiment, str(logger.run_id))
    elif isinstance(logger, CSVLogger):
        log_to_csv_logger(payload, logger)
    else:
        warnings.warn(
            f"{type(logger).__name__} is given the scalars of the audit alone; tables, figures and files go to "
            "WandbLogger, TensorBoardLogger, MLFlowLogger and CSVLogger",
            stacklevel=2,
        )
        logger.log_metrics(payload.scalars | payload.group_scalars, step=payload.n_models)
