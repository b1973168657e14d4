"""Audits in Weights & Biases."""

from __future__ import annotations

import hashlib
import io
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.loggers.csv import write_files
from lightning_memaudit.loggers.payload import STEP, Payload, Picture, payload_of
from lightning_memaudit.loggers.walk import PREFIX

if TYPE_CHECKING:
    import wandb

    from lightning_memaudit.loggers.walk import Histogram, Table
    from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["ARTIFACT_TYPE", "log_to_run", "log_to_wandb"]

ARTIFACT_TYPE = "memorization-audit"
_MOST_BINS = 512


def log_to_wandb(report: AuditReport | Payload, *, project: str, id: str | None = None, **init: Any) -> str:  # noqa: A002
    """Log a report to a run of its own, and finish it.

    Args:
        report: The report, or its ``payload_of`` where several loggers take it.
        project: Project in W&B.
        id: The run; by default one for each audit, which is resumed when the audit has grown.
        **init: Further arguments of ``wandb.init``: ``entity``, ``name``, ``tags``, ``group``, ``mode``, ``dir``.

    Returns:
        The address of the run, or its folder when W&B is offline.

    Raises:
        ConfigurationError: W&B refused the run.

    Example:
        ``log_to_wandb(AuditReport.from_store(OutcomeStore("audits/cifar")), project="cifar")``
    """
    import wandb

    payload = payload_of(report)
    arguments: dict[str, Any] = {
        "name": payload.name,
        "job_type": ARTIFACT_TYPE,
        "resume": "allow",
        "reinit": "create_new",  # a run that the user has open stays open
        **init,
    }
    try:
        run = wandb.init(project=project, id=id or _run_id(payload), **arguments)
    except wandb.Error as error:
        raise ConfigurationError(
            f"project={project!r}: W&B refused the run ({error}); log in with `wandb login`, or set WANDB_MODE=offline"
        ) from error
    with run:
        log_to_run(payload, run)
        return run.url or run.settings.sync_dir


def log_to_run(payload: Payload, run: wandb.Run) -> None:
    """Log to a run that is open, and leave it open.

    Nothing is logged at a step of the run's own: the x-axis of an audit is its number of models.
    """
    import wandb

    run.define_metric(STEP)
    run.define_metric(f"{PREFIX}/*", step_metric=STEP)
    for name in payload.scalars.keys() - {STEP}:  # names win over the "*" of WandbLogger, and patterns need not
        run.define_metric(name, step_metric=STEP)
    run.config.update({PREFIX: payload.config}, allow_val_change=True)  # type: ignore[no-untyped-call]
    run.log(
        {
            **payload.scalars,
            **{name: _histogram(histogram) for name, histogram in payload.histograms.items()},
            **{name: _table(table) for name, table in payload.tables.items()},
            **{name: _image(picture) for name, picture in payload.figures.items()},
        }
    )
    run.summary[f"{PREFIX}/summary"] = payload.summary
    artifact = wandb.Artifact(payload.name, ARTIFACT_TYPE, description=payload.summary, metadata=payload.config)
    with TemporaryDirectory() as folder:
        write_files(payload, folder)
        artifact.add_dir(folder)  # which copies
    run.log_artifact(artifact, aliases=["latest", f"n{payload.n_models}"])


def _run_id(payload: Payload) -> str:
    digests = "-".join(f"{name}:{digest}" for name, digest in sorted(payload.config["digests"].items()))
    return f"{PREFIX}-{hashlib.sha256(digests.encode()).hexdigest()[:16]}"


def _table(table: Table) -> wandb.Table:
    import wandb

    rows = [[_image(cell) if isinstance(cell, Picture) else cell for cell in row] for row in table.rows]
    return wandb.Table(columns=list(table.columns), data=rows, allow_mixed_types=True)


def _histogram(histogram: Histogram) -> wandb.Histogram:
    import wandb

    stride = -(-len(histogram.counts) // _MOST_BINS)
    counts = [sum(histogram.counts[i : i + stride]) for i in range(0, len(histogram.counts), stride)]
    edges = [*histogram.edges[:-1:stride], histogram.edges[-1]]
    return wandb.Histogram(np_histogram=(np.array(counts), np.array(edges)))


def _image(picture: Picture) -> wandb.Image:
    import wandb
    from PIL import Image

    return wandb.Image(Image.open(io.BytesIO(picture.png)), caption=picture.caption)
