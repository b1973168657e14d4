"""Trains one model on batches gathered in memory, step by step as Lightning's own loop does."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.model_helpers import is_overridden
from torchmetrics import Metric, MetricCollection

from lightning_memaudit.callbacks.passive import InternalCallback
from lightning_memaudit.compat.lightning import before_batch_transfer, without_logging_to_trainer
from lightning_memaudit.data.epoch_order import EpochOrder
from lightning_memaudit.training.engines.in_memory.support import (
    CALLED_HOOKS,
    StoppedEarly,
    Unsupported,
    overridden_transfer_hooks,
    unsupported,
)
from lightning_memaudit.training.task import train_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader

    from lightning_memaudit.data.rows import InMemoryData, Rows
    from lightning_memaudit.training.run import Run

__all__ = [
    "InMemoryLoop",
    "check_signals",
    "finished_epoch",
    "finished_step",
    "started_step",
    "step_schedulers",
    "train_in_memory",
    "training_is_done",
    "training_step_of",
    "without_logging",
]


def train_in_memory(run: Run, model_id: int, data: InMemoryData) -> Trainer:
    """``train_model`` by ``InMemoryLoop``.

    Args:
        run: Of the model.
        model_id: Which model.
        data: The examples in memory.

    Raises:
        Unsupported: The module or the Trainer uses what the loop does not do.
        TrainingError: The user's code failed; what is stored is kept.
    """
    return train_model(run, model_id, loop=InMemoryLoop(data.train), loaders=data.scoring)


class InMemoryLoop(InternalCallback):
    """Takes the place of the Trainer's loop over epochs and batches.

    The Trainer sets everything up (device, optimizers, schedulers, hooks before training) and ends the fit as always;
    in between, this makes the same steps on the same batches from the same random numbers, so that the weights are
    those of Lightning's loop bit for bit, without its cost per step.

    Args:
        rows: All training examples, of which the Trainer's loader draws.
        n_steps: Stop after so many steps, by raising ``StoppedEarly``; None trains to the end.

    Raises:
        Unsupported: Out of ``Trainer.fit``: the module or the Trainer uses what this loop does not do.
    """

    def __init__(self, rows: Rows, *, n_steps: int | None = None) -> None:
        self.rows = rows
        self.n_steps = n_steps
        self.step_seconds: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train, and leave the Trainer with nothing to do."""
        if reason := unsupported(trainer, pl_module):
            raise Unsupported(reason)
        rows = self.rows.to(trainer.strategy.root_device)
        loader = cast("DataLoader[Any]", trainer.train_dataloader)
        order = EpochOrder(loader, workers=trainer.datamodule.source.train_loader())  # type: ignore[attr-defined]
        n_batches = int(trainer.num_training_batches)
        transfer = _transfer(trainer, pl_module)
        step = _Step(trainer, pl_module)
        with without_logging(pl_module) as logged:
            order.go_on()  # the Trainer began the first epoch itself
            while not training_is_done(trainer):
                step.hook("on_train_epoch_start")
                if trainer.current_epoch:
                    order.start_epoch()
                for index, drawn in enumerate(torch.split(order.draw(n_batches), order.batch_size)):
                    if trainer.global_step == self.n_steps:
                        raise StoppedEarly
                    started = time.perf_counter()
                    step(transfer(rows.batch(drawn)), index)
                    self.step_seconds.append(time.perf_counter() - started)
                    if training_is_done(trainer):
                        break
                step.hook("on_train_epoch_end")
                finished_epoch(trainer)
                logged.reset()


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
        started_step(trainer, index)
        if self.hook("on_train_batch_start", batch, index) == -1:
            raise Unsupported("on_train_batch_start that skips the rest of an epoch")
        output: Any = None

        @torch.enable_grad()
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
        if "on_train_batch_end" in self._hooks:
            self.hook("on_train_batch_end", _as_outputs(output), batch, index)
        check_signals(trainer)


def _as_outputs(output: Any) -> dict[str, Any]:
    """What ``on_train_batch_end`` is given of what ``training_step`` returned."""
    if output is None:
        return {}
    extra = {**output} if isinstance(output, Mapping) else {"loss": output}
    return {"loss": extra.pop("loss").detach().clone(), **extra}


def training_step_of(pl_module: LightningModule) -> Callable[[Any, int], Any]:
    """``training_step(batch, batch_idx)``, whichever of the two the user's method takes."""
    parameters = inspect.signature(pl_module.training_step).parameters
    if "batch_idx" in parameters or len(parameters) >= 2:
        return pl_module.training_step
    return lambda batch, _: pl_module.training_step(batch)


class Logged:
    """Stands for ``self.log`` and for what the Trainer keeps of it: subset models do not log.

    Metrics that are logged are reset at the end of an epoch, as by the Trainer.
    """

    def __init__(self) -> None:
        self._metrics: dict[int, Metric | MetricCollection] = {}

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Take the place of ``LightningModule.log``."""
        if isinstance(value, Metric | MetricCollection):
            self._metrics[id(value)] = value

    def log_dict(self, dictionary: Any, *args: Any, **kwargs: Any) -> None:
        """Take the place of ``LightningModule.log_dict``."""
        if isinstance(dictionary, MetricCollection):
            self._metrics[id(dictionary)] = dictionary
            return
        for name, value in dictionary.items():
            self.log(name, value)

    def reset(self) -> None:
        """An epoch is over."""
        for metric in self._metrics.values():
            metric.reset()
        self._metrics.clear()

    def __getattr__(self, name: str) -> Any:
        raise Unsupported(f"trainer.{name}, since subset models do not log")


@contextmanager
def without_logging(pl_module: LightningModule) -> Iterator[Logged]:
    """``self.log`` and ``self.log_dict`` keep nothing; to ask the Trainer for what was logged raises Unsupported."""
    trainer, logged = pl_module.trainer, Logged()
    pl_module.log, pl_module.log_dict = logged.log, logged.log_dict  # type: ignore[method-assign]
    try:
        with without_logging_to_trainer(trainer, logged):
            yield logged
    finally:
        del pl_module.log, pl_module.log_dict


def started_step(trainer: Trainer, index: int) -> None:
    """Count a batch, as ``trainer.is_last_batch`` shows it."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    progress.current.ready = index + 1
    progress.is_last_batch = index + 1 == trainer.num_training_batches


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


def check_signals(trainer: Trainer) -> None:
    """Heed what was said to the Trainer between steps.

    Raises:
        Unsupported: Something set ``trainer.should_stop``.
        KeyboardInterrupt: The process was asked to end, which Lightning keeps from it during a fit.
    """
    if trainer.should_stop:
        raise Unsupported("trainer.should_stop, set during training")
    if trainer.received_sigterm:
        raise KeyboardInterrupt


def _transfer(trainer: Trainer, pl_module: LightningModule) -> Callable[[Any], Any]:
    if overridden_transfer_hooks(pl_module, trainer.datamodule) or trainer.strategy.root_device.type != "cpu":  # type: ignore[attr-defined]
        return lambda batch: trainer.strategy.batch_to_device(
            before_batch_transfer(trainer, pl_module, batch), dataloader_idx=0
        )
    return lambda batch: batch
