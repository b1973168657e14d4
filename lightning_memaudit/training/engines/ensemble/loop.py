"""Trains a chunk of models at once, each on its own subset in its own order."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_memaudit.callbacks.passive import InternalCallback
from lightning_memaudit.compat.torch import missing_from_tensors
from lightning_memaudit.data.randomness import random_state
from lightning_memaudit.data.rows import TensorRows
from lightning_memaudit.training.engines.ensemble.attributes import first_difference
from lightning_memaudit.training.engines.ensemble.gradients import EnsembleGradients, Traces
from lightning_memaudit.training.engines.ensemble.inspection import inspect_step, without_metrics
from lightning_memaudit.training.engines.ensemble.optimizers import clip_per_model, step_stacked
from lightning_memaudit.training.engines.ensemble.pooling import fallbacks_allowed
from lightning_memaudit.training.engines.ensemble.stack import Stack
from lightning_memaudit.training.engines.in_memory.loop import (
    check_signals,
    finished_epoch,
    finished_step,
    started_step,
    step_schedulers,
    training_is_done,
    without_logging,
)
from lightning_memaudit.training.engines.in_memory.support import (
    CALLED_HOOKS,
    StoppedEarly,
    Unsupported,
    overridden_transfer_hooks,
    unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import LightningModule, Trainer

    from lightning_memaudit.data.epoch_order import EpochOrder
    from lightning_memaudit.data.rows import Rows
    from lightning_memaudit.training.engines.ensemble.inspection import Inspection

__all__ = ["ChunkMemo", "EnsembleLoop", "Member"]

_COPIES = 6  # of the parameters: the module, the stack, gradients, two moments, and one in passing
_HOOKS_OF_ONE_MODEL = (*CALLED_HOOKS, "setup", "configure_model", "on_fit_start", "on_train_end", "on_fit_end")


@dataclass(slots=True, eq=False)
class Member:
    """One model of a chunk before training.

    Attributes:
        module: The freshly built module.
        order: Draws its batches.
        random_state: Its own random numbers, from which the next epoch is drawn.
    """

    module: LightningModule
    order: EpochOrder
    random_state: torch.Tensor

    def draw(self, epoch: int, n_batches: int) -> torch.Tensor:
        """The rows of one epoch; the random numbers of all models together, for dropout, go on as they were."""
        shared = torch.get_rng_state()
        torch.set_rng_state(self.random_state)
        if epoch:
            self.order.start_epoch()
        drawn = self.order.draw(n_batches)
        self.random_state = torch.get_rng_state()
        torch.set_rng_state(shared)
        return drawn


@dataclass(slots=True)
class ChunkMemo:
    """What one chunk learns for those that follow in the same process.

    Attributes:
        first: The first of all models, before training; what it holds is the same in the others.
        inspection: Of the training step.
        bytes_per_model: Memory that one model of a chunk takes in training, about.
        traces: Traced training steps.
        compiled_size: Compile the traced step of full batches of so many models; None compiles nothing.
        compiling_was_tried: It is not tried again.
    """

    first: LightningModule | None = None
    inspection: Inspection | None = None
    bytes_per_model: int = 0
    traces: Traces = field(default_factory=Traces)
    compiled_size: int | None = None
    compiling_was_tried: bool = False


class EnsembleLoop(InternalCallback):
    """Takes the place of the Trainer's loop, for a chunk of models of which the Trainer holds one.

    The Trainer sets up the optimizer and schedulers of that one; its optimizer is then given the stacked parameters of
    all. ``stack`` holds the trained models when the fit is over, and ``step_seconds`` the time that each step took.

    Args:
        rows: All training examples.
        members: The models of the chunk.
        spare: One more module, for a step that is only looked at.
        memo: What earlier chunks found out; it is added to.
        n_steps: Stop after so many steps; None trains to the end.

    Raises:
        Unsupported: Out of ``Trainer.fit``: the module or the Trainer uses what this loop does not do.
    """

    def __init__(
        self,
        rows: Rows,
        members: Sequence[Member],
        *,
        spare: LightningModule,
        memo: ChunkMemo,
        n_steps: int | None = None,
    ) -> None:
        self.rows = rows
        self.members = members
        self.spare = spare
        self.memo = memo
        self.n_steps = n_steps
        self._stack: Stack | None = None
        self.step_seconds: list[float] = []

    @property
    def stack(self) -> Stack:
        """The trained models.

        Raises:
            RuntimeError: Nothing was trained.
        """
        if self._stack is None:
            raise RuntimeError("EnsembleLoop has trained nothing")
        return self._stack

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the chunk, and leave the Trainer with nothing to do."""
        if reason := unsupported(trainer, pl_module) or _not_stackable(trainer, pl_module, self.members):
            raise Unsupported(reason)
        device = trainer.strategy.root_device
        rows = self.rows.to(device)
        if not isinstance(rows, TensorRows):
            raise Unsupported("a collate_fn whose batches are not rows of stacked tensors")
        batch_size, n_batches = self.members[0].order.batch_size, int(trainer.num_training_batches)
        if self.memo.inspection is None:
            self.spare.trainer = trainer
            self.memo.inspection = inspect_step(
                self.spare.to(device), rows.batch(torch.arange(min(batch_size, len(rows)), device=device))
            )
            parameters = sum(parameter.nbytes for parameter in pl_module.parameters())
            self.memo.bytes_per_model = _COPIES * parameters + 2 * self.memo.inspection.activation_bytes
        modules = [member.module for member in self.members]
        self.memo.first = self.memo.first or modules[0]
        if odd := first_difference([self.memo.first, *modules]):
            raise Unsupported(f"the attribute {odd}, which is no buffer and differs between models")
        stack = Stack.of(modules, device)
        gradients = EnsembleGradients(
            pl_module,
            rows.spec,
            self.memo.inspection,
            traces=self.memo.traces,
            batch_size=batch_size,
            compiled=self.memo.compiled_size == len(modules),
        )
        optimizer = trainer.optimizers[0]
        step_stacked(optimizer, pl_module, stack, may_fuse=self.memo.inspection.steady)
        optimized = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        with without_logging(pl_module), without_metrics(pl_module), fallbacks_allowed():
            while not self._done(trainer):
                epoch = trainer.current_epoch
                drawn = torch.stack([member.draw(epoch, n_batches) for member in self.members]).to(device)
                state = random_state()
                for index, indices in enumerate(torch.split(drawn, batch_size, dim=1)):
                    started = time.perf_counter()
                    started_step(trainer, index)
                    gradients(stack, rows.gather(indices), index)
                    clip_per_model(optimized, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
                    optimizer.step()
                    finished_step(trainer)
                    step_schedulers(trainer, "step", index)
                    if index + 1 == n_batches:
                        step_schedulers(trainer, "epoch", epoch)
                    check_signals(trainer)
                    self.step_seconds.append(time.perf_counter() - started)
                    if self._done(trainer):
                        break
                if not self.memo.inspection.draws_random and random_state() != state:
                    raise Unsupported("training_step, which draws random numbers in some epochs only")
                finished_epoch(trainer)
        self._stack = stack
        if self.n_steps is not None:
            raise StoppedEarly

    def _done(self, trainer: Trainer) -> bool:
        return training_is_done(trainer) or (self.n_steps is not None and trainer.global_step >= self.n_steps)


def _not_stackable(trainer: Trainer, pl_module: LightningModule, members: Sequence[Member]) -> str | None:
    hooks = [hook for hook in _HOOKS_OF_ONE_MODEL if is_overridden(hook, pl_module)]
    hooks += overridden_transfer_hooks(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
    if hooks:
        return f"the hook {hooks[0]}, which is written for one model"
    if missing := missing_from_tensors(trainer.optimizers[0]):
        return missing
    if len({len(member.order) for member in members}) != 1:
        return "subsets of different sizes"
    return None
