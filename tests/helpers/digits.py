"""Handwritten digits with some labels flipped, and a network of any width that fits them or does not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import Audit, AuditReport

if TYPE_CHECKING:
    from pathlib import Path

N = 1797


def flipped_rows(n: int = N) -> np.ndarray:
    """One row in twenty."""
    return np.random.default_rng(0).choice(n, size=round(0.05 * n), replace=False)


class FlippedDigits(LightningDataModule):
    """The first ``n`` digits."""

    def __init__(self, n: int = N) -> None:
        super().__init__()
        self.n = n

    def setup(self, stage: str | None = None) -> None:
        images, labels = (array[: self.n] for array in load_digits(return_X_y=True))
        labels, rows = labels.copy(), flipped_rows(self.n)
        labels[rows] = (labels[rows] + np.random.default_rng(1).integers(1, 10, size=len(rows))) % 10
        self.data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=64, shuffle=True)


class Net(LightningModule):
    def __init__(self, width: int, lr: float, momentum: float) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
        self.lr, self.momentum = lr, momentum

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)


def audit(folder: Path, net: dict[str, float], *, epochs: int, n_models: int, n: int = N) -> AuditReport:
    """The report of an audit of them."""
    trainer = {"max_epochs": epochs, "accelerator": "cpu"}
    model, data = partial(Net, **net), partial(FlippedDigits, n)
    return Audit(model, data, trainer=trainer, n_models=n_models, store=folder).run(progress=False)
