"""Which Trainers and modules a loop of our own trains exactly as Lightning's would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_memaudit.callbacks.passive import PASSIVE_CALLBACKS, InternalCallback
from lightning_memaudit.callbacks.recording import Recorder, StopAfterFirstBatch
from lightning_memaudit.compat.lightning import missing_from_trainer
from lightning_memaudit.training.task import Signal

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

__all__ = ["CALLED_HOOKS", "StoppedEarly", "Unsupported", "overridden_transfer_hooks", "unsupported"]

CALLED_HOOKS = (
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_train_epoch_end",
)
_TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_HOOKS_NOT_CALLED = (
    "on_train_start",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "clip_gradients",
    "lr_scheduler_step",
)


class Unsupported(Signal):
    """Raised by a loop of ours when the module or the Trainer uses something that it does not do."""


class StoppedEarly(Signal):
    """Raised out of ``Trainer.fit`` after as many steps as were asked for."""


_OURS = (InternalCallback, Recorder, StopAfterFirstBatch)
_CALLBACK_HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def unsupported(trainer: Trainer, pl_module: LightningModule) -> str | None:
    """What in a Trainer that is set up for a fit, or in its module, a loop of ours does not do; None if nothing.

    Args:
        trainer: A Trainer whose optimizers are configured.
        pl_module: Its module.
    """
    foreign = [type(callback).__name__ for callback in trainer.callbacks if not _only_watches(callback)]  # type: ignore[attr-defined]
    hooks = [hook for hook in _HOOKS_NOT_CALLED if is_overridden(hook, pl_module)]
    plateau = any(config.reduce_on_plateau for config in trainer.lr_scheduler_configs)
    missing = missing_from_trainer(trainer)
    facts = {
        f"{missing}": missing is not None,
        "manual optimization": not pl_module.automatic_optimization,
        f"the hook {', '.join(hooks)}": bool(hooks),
        f"the callback {', '.join(foreign)}": bool(foreign),
        f"{len(trainer.optimizers)} optimizers": len(trainer.optimizers) != 1,
        f"strategy {type(trainer.strategy).__name__}": type(trainer.strategy) is not SingleDeviceStrategy,
        f"accumulate_grad_batches={trainer.accumulate_grad_batches}": trainer.accumulate_grad_batches != 1,
        f"precision={trainer.precision!r}": trainer.precision != "32-true",
        f"the plugin {type(trainer.precision_plugin).__name__}": type(trainer.precision_plugin) is not Precision,
        "a scheduler that monitors a metric": plateau,
        "validation during training": trainer.enable_validation,
        "a logger": bool(trainer.loggers),
        "reload_dataloaders_every_n_epochs": bool(trainer.reload_dataloaders_every_n_epochs),  # type: ignore[attr-defined]
        "detect_anomaly": torch.is_anomaly_enabled(),
        "no end (max_epochs=-1)": trainer.max_epochs == -1 and trainer.max_steps == -1,
        "training data of no fixed length": trainer.num_training_batches == float("inf"),
    }
    return next((what for what, present in facts.items() if present), None)


def overridden_transfer_hooks(pl_module: LightningModule, datamodule: LightningDataModule) -> list[str]:
    """The batch transfer hooks that the user's module or data module brings."""
    return [hook for hook in _TRANSFER_HOOKS if is_overridden(hook, pl_module) or is_overridden(hook, datamodule)]


def _only_watches(callback: Callback) -> bool:
    """Whether a callback is ours or a stock one that is passive, and not a subclass with hooks of its own."""
    if isinstance(callback, _OURS):
        return True
    makers = {getattr(type(callback), hook).__module__.partition(".")[0] for hook in _CALLBACK_HOOKS}
    return isinstance(callback, PASSIVE_CALLBACKS) and makers <= {"lightning", "lightning_memaudit"}
