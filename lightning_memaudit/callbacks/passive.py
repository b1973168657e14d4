"""Stock callbacks that watch training and do not change what is learned."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import (
    Callback,
    Checkpoint,
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelSummary,
    OnExceptionCheckpoint,
    ProgressBar,
    ThroughputMonitor,
)

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["PASSIVE_CALLBACKS", "InternalCallback", "StepTimer"]


class InternalCallback(Callback):
    """A callback of this package that changes how a model is trained and not what it learns."""


class StepTimer(InternalCallback):
    """Keeps the time at the end of each step, and ends the fit after ``n_steps``.

    Args:
        n_steps: Steps to time.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.times: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the time."""
        self.times.append(time.perf_counter())
        if len(self.times) > self.n_steps:
            trainer.fit_loop.epoch_loop.max_steps = trainer.global_step


PASSIVE_CALLBACKS = (
    Checkpoint,
    DeviceStatsMonitor,
    InternalCallback,
    LearningRateMonitor,
    ModelSummary,
    OnExceptionCheckpoint,
    ProgressBar,
    ThroughputMonitor,
)
