"""A copy of a trained module that a treatment may change."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

__all__ = ["detached_copy"]


def detached_copy(pl_module: LightningModule) -> LightningModule:
    """A deep copy without the Trainer, which stays the original's."""
    try:
        trainer = pl_module.trainer
    except RuntimeError:  # it has none
        return copy.deepcopy(pl_module)
    pl_module.trainer = None
    try:
        return copy.deepcopy(pl_module)
    finally:
        pl_module.trainer = trainer
