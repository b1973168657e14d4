"""Trains one model on batches gathered in memory, step by step as Lightning's own loop does."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.model_helpers import is_overridden
from torchmetrics import Metric

from lightning_memaudit.callbacks.passive import InternalCallback
from lightning_memaudit.data.schedule import EpochOrder
from lightning_memaudit.training.loops.honoured import (
    CALLED_HOOKS,
    NotHonoured,
    StoppedEarly,
    not_honoured,
    overridden_transfer_hooks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader

    from lightning_memaudit.data.rows import Rows

__all__ = [
    "InMemoryLoop",
    "finished_epoch",
    "finished_step",
    "step_schedulers",
    "training_is_done",
    "training_step_of",
    "without_logging",
]


class InMemoryLoop(InternalCallback):
    """Takes the place of the Trainer's loop over epochs and batches.

    The Trainer sets everything up (device, optimizers, schedulers, hooks before training) and ends the fit as always;
    in between, this makes the same steps on the same batches from the same random numbers, so that the weights are
    those of Lightning's loop bit for bit, without its cost per step.

    Args:
        rows: All training examples, of which the Trainer's loader draws.
        n_steps: Stop after so many steps, by raising ``StoppedEarly``; None trains to the end.

    Raises:
        NotHonoured: Out of ``Trainer.fit``: the module or the Trainer uses what this loop does not do.
    """

    def __init__(self, rows: Rows, *, n_steps: int | None = None) -> None:
        self.rows = rows
        self.n_steps = n_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train, and leave the Trainer with nothing to do."""
        if reason := not_honoured(trainer, pl_module):
            raise NotHonoured(reason)
        rows = self.rows.to(trainer.strategy.root_device)
        order = EpochOrder(cast("DataLoader[Any]", trainer.train_dataloader))
        n_batches = int(trainer.num_training_batches)
        transfer = _transfer(trainer, pl_module)
        step = _Step(trainer, pl_module)
        with without_logging(pl_module):
            epoch = trainer.current_epoch
            while not training_is_done(trainer):
                if epoch:  # the Trainer began the first epoch itself
                    order.start_epoch()
                step.hook("on_train_epoch_start")
                for index, drawn in enumerate(torch.split(order.draw(), order.batch_size)[:n_batches]):
                    step(transfer(rows.batch(drawn)), index)
                    if trainer.global_step == self.n_steps:
                        raise StoppedEarly
                    if training_is_done(trainer):
                        break
                step.hook("on_train_epoch_end")
                finished_epoch(trainer)
                _reset_metrics(pl_module)
                epoch += 1


class _Step:
    """One optimizer step and all that Lightning does around it."""

    def __init__(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._trainer = trainer
        self._module = pl_module
        self._optimizer = trainer.optimizers[0]
        self._training_step = training_step_of(pl_module)
        self._hooks = {name: getattr(pl_module, name) for name in CALLED_HOOKS if is_overridden(name, pl_module)}

    def hook(self, name: str, *arguments: Any) -> Any:
        """Call a hook of the module, if it has one of its own."""
        return self._hooks[name](*arguments) if name in self._hooks else None

    def __call__(self, batch: Any, index: int) -> None:
        trainer, optimizer = self._trainer, self._optimizer
        if self.hook("on_train_batch_start", batch, index) == -1:
            raise NotHonoured("on_train_batch_start that skips the rest of an epoch")
        output: Any = None

        def closure() -> Any:
            nonlocal output
            output = self._training_step(batch, index)
            loss = output["loss"] if isinstance(output, Mapping) else output
            self.hook("on_before_zero_grad", optimizer)
            optimizer.zero_grad()
            if loss is not None:
                self.hook("on_before_backward", loss)
                loss.backward()
                self.hook("on_after_backward")
            self.hook("on_before_optimizer_step", optimizer)
            trainer.precision_plugin.clip_gradients(
                optimizer,
                trainer.gradient_clip_val or 0.0,
                GradClipAlgorithmType(trainer.gradient_clip_algorithm or "norm"),
            )
            return loss

        optimizer.step(closure)
        finished_step(trainer)
        step_schedulers(trainer, "step", index)
        if index + 1 == trainer.num_training_batches:
            step_schedulers(trainer, "epoch", trainer.current_epoch)
        self.hook("on_train_batch_end", output, batch, index)
        if trainer.should_stop:
            raise NotHonoured("trainer.should_stop, set during training")


def training_step_of(pl_module: LightningModule) -> Callable[[Any, int], Any]:
    """``training_step(batch, batch_idx)``, whichever of the two the user's method takes."""
    parameters = inspect.signature(pl_module.training_step).parameters
    if "batch_idx" in parameters or len(parameters) >= 2:
        return pl_module.training_step
    return lambda batch, _: pl_module.training_step(batch)


@contextmanager
def without_logging(pl_module: LightningModule) -> Iterator[None]:
    """``self.log`` and ``self.log_dict`` do nothing: subset models do not log."""
    pl_module.log = pl_module.log_dict = _log_nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        del pl_module.log, pl_module.log_dict


def finished_step(trainer: Trainer) -> None:
    """Count an optimizer step, as ``trainer.global_step`` shows it."""
    progress = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step
    progress.increment_ready()
    progress.increment_completed()


def finished_epoch(trainer: Trainer) -> None:
    """Count an epoch, as ``trainer.current_epoch`` shows it."""
    progress = trainer.fit_loop.epoch_progress
    progress.increment_ready()
    progress.increment_started()
    progress.increment_processed()
    progress.increment_completed()


def step_schedulers(trainer: Trainer, interval: str, index: int) -> None:
    """Step the schedulers of an interval after batch (or epoch) number ``index``."""
    for config in trainer.lr_scheduler_configs:
        if config.interval == interval and (index + 1) % config.frequency == 0:
            config.scheduler.step()  # type: ignore[call-arg]


def training_is_done(trainer: Trainer) -> bool:
    """Whether ``max_steps`` or ``max_epochs`` is reached."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    return (steps >= 0 and trainer.global_step >= steps) or (
        epochs is not None and 0 <= epochs <= trainer.current_epoch
    )


def _transfer(trainer: Trainer, pl_module: LightningModule) -> Callable[[Any], Any]:
    if overridden_transfer_hooks(pl_module, trainer.datamodule) or trainer.strategy.root_device.type != "cpu":  # type: ignore[attr-defined]
        return lambda batch: trainer.strategy.batch_to_device(
            pl_module._on_before_batch_transfer(batch, dataloader_idx=0), dataloader_idx=0
        )
    return lambda batch: batch


def _reset_metrics(pl_module: LightningModule) -> None:
    """Torchmetrics that are logged are reset at the end of an epoch; others would grow for ever."""
    for module in pl_module.modules():
        if isinstance(module, Metric):
            module.reset()


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    pass
