"""What a Trainer or a module may not do when its steps are to be private."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import BatchSizeFinder, GradientAccumulationScheduler, LearningRateFinder
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_memaudit.compat.lightning import check_private_steps, forks_workers, is_compiled, user_optimizers
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from lightning_memaudit.callbacks.dp.gradients import GradSampleMode

__all__ = ["check_module_hooks", "check_optimizers", "check_trainer"]

_PRECISIONS = ("32-true", "64-true", "bf16-mixed")


def check_trainer(trainer: Trainer, *, splits_batches: bool) -> None:
    """Refuse a Trainer under which the steps would not be those that are accounted for.

    Args:
        trainer: The Trainer, before training.
        splits_batches: Whether samples come in parts.

    Raises:
        ConfigurationError: The option and the way out are named.
    """
    check_private_steps(trainer)
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    if trainer.accumulate_grad_batches != 1 or _has(callbacks, GradientAccumulationScheduler):
        raise ConfigurationError(
            f"accumulate_grad_batches={trainer.accumulate_grad_batches}: the accounting counts a step for every "
            "sample; set it to 1, raise batch_size, and let max_physical_batch_size= of DifferentialPrivacy split "
            "large batches"
        )
    if trainer.gradient_clip_val:
        raise ConfigurationError(
            f"gradient_clip_val={trainer.gradient_clip_val}: gradients are clipped per example, with max_grad_norm= of "
            "DifferentialPrivacy; leave gradient_clip_val out"
        )
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        raise ConfigurationError(
            f"overfit_batches={trainer.overfit_batches}: it fixes the batches, and private steps need fresh Poisson "  # type: ignore[attr-defined]
            "samples; leave it out"
        )
    if splits_batches and trainer.limit_train_batches != 1.0:
        raise ConfigurationError(
            f"limit_train_batches={trainer.limit_train_batches} may end in the middle of a sample that "
            "max_physical_batch_size splits; limit max_steps instead"
        )
    if _has(callbacks, LearningRateFinder) or _has(callbacks, BatchSizeFinder):
        raise ConfigurationError(
            "the learning rate and batch size finders train on the data outside the accounting; run them without "
            "DifferentialPrivacy on public data, and set what they find"
        )
    if str(trainer.precision) not in _PRECISIONS:
        raise ConfigurationError(
            f"precision={trainer.precision!r}: per-example gradients or noise lose their scale in it; use one of "
            + ", ".join(_PRECISIONS)
        )
    _check_strategy(trainer)


def check_module_hooks(pl_module: LightningModule, mode: GradSampleMode, *, splits_batches: bool) -> None:
    """Refuse a module whose hooks work on gradients that are not the private ones.

    Args:
        pl_module: The user's module.
        mode: How per-example gradients are found.
        splits_batches: Whether samples come in parts.

    Raises:
        ConfigurationError: The hook and the way out are named.
    """
    if is_compiled(pl_module):
        raise ConfigurationError(
            "the whole LightningModule is compiled, so that per-example gradients cannot be seen; compile the inner "
            "net instead: self.net = torch.compile(net)"
        )
    if is_overridden("configure_gradient_clipping", pl_module, LightningModule):
        raise ConfigurationError(
            "configure_gradient_clipping is overridden, and gradients are clipped per example here; take it out and "
            "set max_grad_norm= of DifferentialPrivacy"
        )
    if mode == "ghost" and is_overridden("backward", pl_module, LightningModule):
        raise ConfigurationError(
            "backward is overridden, which grad_sample_mode='ghost' cannot go through; use grad_sample_mode='hooks'"
        )
    if splits_batches and not pl_module.automatic_optimization:
        raise ConfigurationError(
            "max_physical_batch_size needs automatic optimization (Lightning counts the parts of a step); leave it "
            "out, or set automatic_optimization=True"
        )


def check_optimizers(optimizers: list[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """The one optimizer that can be made private.

    Raises:
        ConfigurationError: None, several, or one that looks at the loss more than once.
    """
    optimizers = user_optimizers(optimizers)
    if len(optimizers) != 1:
        raise ConfigurationError(
            f"configure_optimizers gives {len(optimizers)} optimizers; differential privacy accounts for the steps of "
            "exactly one, so put all parameters into its groups"
        )
    optimizer = optimizers[0]
    if isinstance(optimizer, torch.optim.LBFGS) or hasattr(optimizer, "original_optimizer"):
        raise ConfigurationError(
            f"optimizer {type(optimizer).__name__}: it evaluates the loss several times a step, or is private already; "
            "use one such as SGD or Adam"
        )
    return optimizer


def _check_strategy(trainer: Trainer) -> None:
    strategy = trainer.strategy
    replicates = isinstance(strategy, DDPStrategy) and not isinstance(strategy, DeepSpeedStrategy)
    if not isinstance(strategy, SingleDeviceStrategy) and not replicates:
        raise ConfigurationError(
            f"strategy={type(strategy).__name__}: the clip norm needs the whole gradient of an example on one device; "
            "use one device, or strategy='ddp'"
        )
    if forks_workers(strategy):
        raise ConfigurationError(
            "strategy: its worker processes end without telling this one what they have spent; use strategy='ddp'"
        )


def _has(callbacks: list[object], kind: type) -> bool:
    return any(isinstance(callback, kind) for callback in callbacks)
