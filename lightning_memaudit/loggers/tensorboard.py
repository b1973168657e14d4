"""Audits in TensorBoard."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.loggers.payload import Payload, payload_of
from lightning_memaudit.loggers.walk import PREFIX
from lightning_memaudit.outcomes.storage import Storage

if TYPE_CHECKING:
    import os

    from lightning_memaudit.loggers.walk import Histogram
    from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["log_to_tensorboard", "log_to_writer"]


def log_to_tensorboard(report: AuditReport | Payload, folder: str | os.PathLike[str]) -> str:
    """Write a report as event files of their own.

    Args:
        report: The report, or its ``payload_of`` where several loggers take it.
        folder: The log folder of one run, below the one that TensorBoard is started with.

    Returns:
        The folder.

    Raises:
        ConfigurationError: TensorBoard is not installed.
        ArgumentError: There is a file where the folder would be.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigurationError(
            "TensorBoard is not installed; pip install 'lightning-memaudit[tensorboard]'"
        ) from error
    Storage(folder, name="folder")
    payload = payload_of(report)
    with SummaryWriter(str(folder)) as writer:
        log_to_writer(payload, writer)
    return str(folder)


def log_to_writer(payload: Payload, writer: Any) -> None:
    """Log to a ``SummaryWriter`` of PyTorch or tensorboardX and leave it open; steps are numbers of models."""
    from PIL import Image

    step = payload.n_models
    for name, value in (payload.scalars | payload.group_scalars).items():
        writer.add_scalar(name, value, step)
    for name, histogram in payload.histograms.items():
        writer.add_histogram_raw(name, **_moments(histogram), global_step=step)
    for name, picture in payload.figures.items():
        pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"))
        writer.add_image(name, pixels, step, dataformats="HWC")
    writer.add_text(f"{PREFIX}/summary", _as_markdown(payload.summary), step)
    writer.add_text(f"{PREFIX}/report", payload.files["report.md"].decode(), step)
    writer.add_text(f"{PREFIX}/config", _as_markdown(json.dumps(payload.config, indent=1)), step)
    writer.flush()


def _moments(histogram: Histogram) -> dict[str, Any]:
    """Arguments of ``add_histogram_raw``; sums take each bin at its middle."""
    edges, counts = np.array(histogram.edges), np.array(histogram.counts)
    middles, filled = (edges[:-1] + edges[1:]) / 2, np.flatnonzero(counts)
    ends = (edges[filled[0]], edges[filled[-1] + 1]) if len(filled) else (edges[0], edges[-1])
    return {
        "min": float(ends[0]),
        "max": float(ends[1]),
        "num": int(counts.sum()),
        "sum": float((counts * middles).sum()),
        "sum_squares": float((counts * middles**2).sum()),
        "bucket_limits": edges[1:].tolist(),
        "bucket_counts": counts.tolist(),
    }


def _as_markdown(text: str) -> str:
    """An indented block: Markdown shows it as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())
