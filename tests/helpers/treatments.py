"""Treatments as users write them: a dataclass, a plain class that trains, and an object that only answers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback

from lightning_memaudit.treatments import Regime, Treatment

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


@dataclass(frozen=True)
class Rounded(Treatment):
    """In a file, as the documentation shows it."""

    decimals: int = 1
    name: str = "rounded"

    def transform(self, pl_module: LightningModule) -> LightningModule:
        rounded = copy.deepcopy(pl_module)
        for parameter in rounded.parameters():
            parameter.data = parameter.data.round(decimals=self.decimals)
        return rounded


class Decayed(Treatment):
    """A plain class, trained anew with a callback of its own."""

    name = "decayed"

    def __init__(self, factor: float = 0.5) -> None:
        self.factor = factor

    @property
    def trains(self) -> bool:
        return True

    @property
    def starts_trained(self) -> bool:
        return False

    def trainer_arguments(self, regime: Regime) -> dict[str, Any]:
        return {"max_epochs": regime.max_epochs + 1}

    def callbacks(self, regime: Regime) -> list[Callback]:
        return [Shrink(self.factor)]


class Shrink(Callback):
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert trainer.current_epoch == 3
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter.mul_(self.factor)


class Answers:
    """No subclass, but it answers as ``Treatment`` says."""

    name, trains, starts_trained = "answers", False, True

    def trainer_arguments(self, regime: Regime) -> dict[str, Any]:
        return {}

    def callbacks(self, regime: Regime) -> tuple[Callback, ...]:
        return ()

    def transform(self, pl_module: LightningModule) -> LightningModule:
        return pl_module

    def privacy(self, regime: Regime) -> dict[str, Any]:
        return {"epsilon": np.float64(1.5), "steps": np.int64(3)}
