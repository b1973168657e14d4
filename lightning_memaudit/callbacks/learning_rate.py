"""Another learning rate for the same module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import Callback
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from lightning_memaudit.compat.torch import scale_scheduler
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["LearningRate"]


class LearningRate(Callback):
    """Trains with ``lr`` in every parameter group, as if the module had asked for it.

    Schedulers act on it as on the module's own: what they multiply is scaled, and so are the rates that ``OneCycleLR``
    and ``CyclicLR`` were given. Lower limits given as numbers (``eta_min``) stay.

    Args:
        lr: The learning rate.

    Raises:
        ConfigurationError: Out of ``Trainer.fit``: a group's own rate is 0, so that nothing can be scaled.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put it in before the first step."""
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        for optimizer in trainer.optimizers:
            mine = [scheduler for scheduler in schedulers if getattr(scheduler, "optimizer", None) is optimizer]
            given = any(isinstance(scheduler, OneCycleLR | CyclicLR) for scheduler in mine)
            factors = []
            for group in optimizer.param_groups:
                own = float(optimizer.defaults["lr"] if given else group.get("initial_lr", group["lr"]))
                if not own > 0:
                    raise ConfigurationError(f"lr={self.lr}: a parameter group has the learning rate {own}")
                factors.append(self.lr / own)
                for name in ("lr", "initial_lr", "max_lr", "min_lr"):
                    if name in group:
                        group[name] = group[name] * factors[-1]
            for scheduler in mine:
                scale_scheduler(scheduler, factors)
