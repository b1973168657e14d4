"""Audits in W&B, TensorBoard, MLflow and CSV: through a Lightning logger, or on their own."""

from lightning_memaudit.loggers.csv import log_to_csv
from lightning_memaudit.loggers.find import log_report
from lightning_memaudit.loggers.mlflow import log_to_mlflow
from lightning_memaudit.loggers.tensorboard import log_to_tensorboard
from lightning_memaudit.loggers.wandb import log_to_wandb

__all__ = ["log_report", "log_to_csv", "log_to_mlflow", "log_to_tensorboard", "log_to_wandb"]
