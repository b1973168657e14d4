"""Audits as plain files, and in the files of Lightning's CSVLogger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_memaudit.loggers.payload import Payload, payload_of
from lightning_memaudit.loggers.walk import PREFIX
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.report.tables import csv_bytes

if TYPE_CHECKING:
    import os

    from lightning.pytorch.loggers import CSVLogger

    from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["log_to_csv", "log_to_csv_logger", "write_files"]


def log_to_csv(report: AuditReport | Payload, folder: str | os.PathLike[str]) -> str:
    """Write a report, its scalars, tables, scores and figures as files.

    Args:
        report: The report, or its ``payload_of`` where several loggers take it.
        folder: A folder or an fsspec URL.

    Returns:
        The folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    return write_files(payload_of(report), folder)


def log_to_csv_logger(payload: Payload, logger: CSVLogger) -> None:
    """Log scalars as one row of ``metrics.csv``, and all files into the folder ``memaudit`` beside it."""
    logger.log_metrics(dict(payload.scalars), step=payload.n_models)
    logger.save()
    write_files(payload, f"{logger.log_dir}/{PREFIX}")


def write_files(payload: Payload, folder: str | os.PathLike[str]) -> str:
    """Write all that a payload holds as files; the folder."""
    storage = Storage(folder, name="folder")
    scalars = payload.scalars | payload.group_scalars
    histograms = {
        f"histograms/{name.removeprefix(f'{PREFIX}/')}.csv": csv_bytes(
            ("low", "high", "count"), zip(known.edges[:-1], known.edges[1:], known.counts, strict=True)
        )
        for name, known in payload.histograms.items()
    }
    files = (
        payload.files
        | histograms
        | {
            "scalars.csv": csv_bytes(("name", "value"), scalars.items()),
            "summary.txt": payload.summary.encode("utf-8", "replace"),
        }
    )
    for name, content in files.items():
        storage.write(name, content)
    return storage.url
