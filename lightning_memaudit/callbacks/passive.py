"""Stock callbacks that watch training and do not change what is learned."""

from __future__ import annotations

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

from lightning_memaudit.callbacks.step_timer import StepTimer

__all__ = ["PASSIVE_CALLBACKS", "InternalCallback"]


class InternalCallback(Callback):
    """A callback of this package that changes how a model is trained and not what it learns."""


PASSIVE_CALLBACKS = (
    Checkpoint,
    DeviceStatsMonitor,
    InternalCallback,
    LearningRateMonitor,
    ModelSummary,
    OnExceptionCheckpoint,
    ProgressBar,
    StepTimer,
    ThroughputMonitor,
)
