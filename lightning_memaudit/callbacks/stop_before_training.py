"""Ends a fit when everything is built and nothing is trained yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["StopBeforeTraining", "StoppedBeforeTraining"]


class StoppedBeforeTraining(Exception):  # noqa: N818 - a signal, not an error
    """Raised out of ``Trainer.fit`` by ``StopBeforeTraining``."""


class StopBeforeTraining(Callback):
    """Raises ``StoppedBeforeTraining`` at ``on_train_start``, when loaders, optimizers and schedulers exist.

    Put it last, so that the ``on_train_start`` of the other callbacks has run.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the fit."""
        raise StoppedBeforeTraining
