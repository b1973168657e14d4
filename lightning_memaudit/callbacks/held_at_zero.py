"""Keeps chosen weights at zero in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lightning.pytorch import LightningModule, Trainer

__all__ = ["HeldAtZero"]


class HeldAtZero(Callback):
    """Sets chosen weights to zero before the first step, after every step, and at the end of training.

    Args:
        choose: Gives parameters of the module, each with a mask of its shape: True where it is held at zero.

    Example:
        Training on with a pruned first layer::

            held = HeldAtZero(lambda module: [(module.first.weight, module.first.weight.abs() < 0.01)])
            Trainer(max_epochs=2, callbacks=[held]).fit(module, datamodule=data)

    Note:
        Add it before callbacks that average weights, so that they start from zeros too.
    """

    def __init__(self, choose: Callable[[LightningModule], Sequence[tuple[torch.Tensor, torch.Tensor]]]) -> None:
        self.choose = choose
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._hooks: list[Any] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose, and follow every optimizer."""
        self._release()
        self._held = list(self.choose(pl_module))
        self._set_to_zero()
        self._hooks = [optimizer.register_step_post_hook(self._set_to_zero) for optimizer in trainer.optimizers]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once more, since the end of training may have brought other weights."""
        self._set_to_zero()
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the optimizers as they were."""
        self._release()

    def _set_to_zero(self, *_: Any) -> None:
        with torch.no_grad():
            for parameter, mask in self._held:
                parameter.masked_fill_(mask, 0.0)

    def _release(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._held = [], []
