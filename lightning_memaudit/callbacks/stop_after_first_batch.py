"""Ends a fit when one batch has gone through everything that a whole fit would need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from lightning_memaudit.callbacks.outcome_recorder import OutcomeRecorder

__all__ = ["StopAfterFirstBatch", "StoppedAfterFirstBatch"]


class StoppedAfterFirstBatch(Exception):  # noqa: N818 - a signal, not an error
    """Raised out of ``Trainer.fit`` by ``StopAfterFirstBatch``."""


class StopAfterFirstBatch(Callback):
    """Trains on one batch, lets a recorder score one batch of every split, and raises ``StoppedAfterFirstBatch``.

    So a wrong key, shape or label shows before hours of training, and nothing is recorded.

    Args:
        recorder: The recorder whose score function is tried.
    """

    def __init__(self, recorder: OutcomeRecorder) -> None:
        self.recorder = recorder

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Try the scoring, and stop the fit."""
        self.recorder.rehearse(trainer, pl_module)
        raise StoppedAfterFirstBatch
