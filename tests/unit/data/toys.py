"""A small classifier, a data module whose loader is given, and training by hand."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_memaudit import SubsetPlan

if TYPE_CHECKING:
    from collections.abc import Callable

N = 24
PLAN = SubsetPlan(N, subset_fraction=0.6, seed=5)
ROWS = np.flatnonzero(PLAN.mask(0))


def examples(n: int = N) -> TensorDataset:
    generator = torch.Generator().manual_seed(n)
    return TensorDataset(torch.randn(n, 4, generator=generator), torch.arange(n) % 3, torch.arange(n))


class Net(LightningModule):
    """Remembers the rows of its batches (the third item of a sample)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.seen: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y, row = (batch["x"], batch["y"], batch["row"]) if isinstance(batch, dict) else batch
        self.seen += row.tolist()
        return torch.nn.functional.cross_entropy(self.layer(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


class Data(LightningDataModule):
    """Its training loader is ``loader(dataset)``."""

    def __init__(self, loader: Callable[..., Any] | None = None, dataset: Dataset[Any] | None = None) -> None:
        super().__init__()
        self.loader = loader or shuffled
        self.dataset = dataset or examples()

    def train_dataloader(self) -> Any:
        return self.loader(self.dataset)


def shuffled(dataset: Dataset[Any]) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=4, shuffle=True)


def trainer(**arguments: Any) -> Trainer:
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 3,
    }
    return Trainer(**(quiet | arguments))


def fit(data: Any, *, net: type[Net] = Net, **arguments: Any) -> Net:
    """Seed, build, fit; ``data`` is a data module or a loader."""
    seed_everything(17, verbose=False)
    model = net()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        if isinstance(data, LightningDataModule):
            trainer(**arguments).fit(model, datamodule=data)
        else:
            trainer(**arguments).fit(model, train_dataloaders=data)
    return model


def same_weights(first: Net, second: Net) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
