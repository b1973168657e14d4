"""Stock callbacks that watch training and do not change what is learned."""

from __future__ import annotations

from lightning.pytorch.callbacks import (
    Checkpoint,
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelSummary,
    OnExceptionCheckpoint,
    ProgressBar,
    ThroughputMonitor,
)

from lightning_memaudit.callbacks.step_timer import StepTimer

__all__ = ["PASSIVE_CALLBACKS"]

PASSIVE_CALLBACKS = (
    Checkpoint,
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelSummary,
    OnExceptionCheckpoint,
    ProgressBar,
    StepTimer,
    ThroughputMonitor,
)
