"""What DP-SGD changes on a Trainer and a module during one fit, and puts back after it."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_memaudit.callbacks.dp.poisson import Draw, check_loader, parts_needed, poisson_loader
from lightning_memaudit.compat.lightning import is_part, reload_training_data, training_source
from lightning_memaudit.compat.torch import forget_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

    from lightning_memaudit.callbacks.dp.gradients import GradSampleMode
    from lightning_memaudit.callbacks.dp.optimizer import PrivateOptimizer
    from lightning_memaudit.callbacks.dp.poisson import PoissonLoader
    from lightning_memaudit.functional.accounting import Mechanism

__all__ = ["Attachment", "Sampling"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the training set is sampled.

    Attributes:
        n_examples: Its size.
        rate: Probability that an example enters a step.
        steps_per_epoch: Samples that make an epoch.
        parts: Batches that each sample is split into.
    """

    n_examples: int
    rate: float
    steps_per_epoch: int
    parts: int


class Attachment:
    """Takes over the training loader at once, and module and optimizer with ``start``; ``detach`` undoes all.

    Args:
        trainer: The Trainer, before it asks for its training loader.
        sample_rate: Probability that an example enters a step; None takes 1 / batches an epoch.
        max_physical_batch_size: Examples of a step that fit into memory.
    """

    def __init__(self, trainer: Trainer, *, sample_rate: float | None, max_physical_batch_size: int | None) -> None:
        self.sampling: Sampling | None = None
        self.optimizer: PrivateOptimizer | None = None
        self._trainer = trainer
        self._sample_rate = sample_rate
        self._max_physical_batch_size = max_physical_batch_size
        self._draw = Draw()
        self._seed = int(trainer.strategy.broadcast(int(torch.randint(2**62, ()))))
        self._coins = torch.Generator().manual_seed(self._seed)
        self._undo = ExitStack()
        source = training_source(trainer)
        loaders = source.dataloader
        self._patch(source, "dataloader", lambda: self._poisson(loaders()))
        self._patch(trainer, "accumulate_grad_batches", 1)

    def load_data(self) -> Sampling | None:
        """How the training set is sampled; None when there is nothing to train on (``limit_train_batches=0``)."""
        if self.sampling is None:  # not asked for yet, or asked for before it was taken over
            reload_training_data(self._trainer)
        return self.sampling

    def start(
        self,
        pl_module: LightningModule,
        optimizer: torch.optim.Optimizer,
        mechanism: Mechanism,
        *,
        mode: GradSampleMode,
        loss_reduction: str,
        steps_before: int,
        may_step: Callable[[], bool],
        on_step: Callable[[], None],
    ) -> None:
        """Attach to module and optimizer.

        Args:
            pl_module: The user's module, on its device.
            optimizer: Its optimizer.
            mechanism: What each step does.
            mode: How per-example gradients are found.
            loss_reduction: ``"mean"`` or ``"sum"``.
            steps_before: All steps of the module before this fit, so that neither coins nor noise come twice.
            may_step: Asked before every step.
            on_step: Called at every step.
        """
        from lightning_memaudit.callbacks.dp.gradients import PerExampleGradients
        from lightning_memaudit.callbacks.dp.optimizer import PrivateOptimizer

        trainer = self._trainer
        coins, noise = np.random.SeedSequence([self._seed, steps_before]).generate_state(2, np.uint64)
        self._coins.manual_seed(int(coins))
        forget_compiled()
        gradients = PerExampleGradients(
            pl_module,
            self._draw,
            mode=mode,
            loss_is_mean=loss_reduction == "mean",
            parts=trainer.accumulate_grad_batches,
            verify=trainer.world_size == 1,
        )
        self._undo.callback(forget_compiled)
        self._undo.callback(gradients.detach)
        if mode == "ghost":
            backward = pl_module.backward
            self._patch(
                pl_module, "backward", lambda loss, *args, **kwargs: backward(loss, *args, **kwargs | _RETAINED)
            )
        self.optimizer = PrivateOptimizer(
            optimizer,
            gradients,
            self._draw,
            may_step=may_step,
            on_step=on_step,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=mechanism.max_grad_norm,
            expected_batch_size=mechanism.expected_batch_size,
            loss_reduction=loss_reduction,
            generator=torch.Generator(pl_module.device).manual_seed(int(noise)),
        )
        self._undo.callback(self.optimizer.detach)
        self._undo.callback(setattr, trainer, "optimizers", [optimizer])
        trainer.optimizers = [self.optimizer]

    def keep_part(self) -> None:
        """Clip the gradients of a part of a sample, unless it is the last one, which takes the step."""
        if self.optimizer is not None and is_part(self._trainer):
            self.optimizer.clip_and_accumulate()

    def end_at(self, global_step: int) -> None:
        """Let training end at a step before the one that the Trainer plans."""
        self._patch(self._trainer.fit_loop.epoch_loop, "max_steps", global_step)

    def detach(self) -> None:
        """Put everything back; may be called again."""
        self._undo.close()

    def _poisson(self, loader: Any) -> PoissonLoader:
        """Poisson samples in place of the batches of the user's loader."""
        checked, trainer = check_loader(loader), self._trainer
        if self.sampling is None:
            n_examples = len(checked.dataset)  # type: ignore[arg-type]
            steps = round(1 / self._sample_rate) if self._sample_rate else math.ceil(len(checked) / trainer.world_size)
            rate = self._sample_rate or 1 / steps
            parts = parts_needed(n_examples, rate, self._max_physical_batch_size, trainer.world_size)
            self.sampling = Sampling(n_examples, rate, steps, parts)
        trainer.accumulate_grad_batches = self.sampling.parts
        return poisson_loader(
            checked,
            self._draw,
            sample_rate=self.sampling.rate,
            steps=self.sampling.steps_per_epoch,
            parts=self.sampling.parts,
            generator=self._coins,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of an instance until ``detach``."""
        if name in vars(owner):
            self._undo.callback(setattr, owner, name, vars(owner)[name])
        else:
            self._undo.callback(delattr, owner, name)
        setattr(owner, name, value)


_RETAINED = {"retain_graph": True}
