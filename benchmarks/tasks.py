"""The models and data that the benchmarks train, and the loop that a user would write."""

from __future__ import annotations

import logging
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

if TYPE_CHECKING:
    from lightning_memaudit import SubsetPlan

BATCH = 64
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Net(LightningModule):
    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class MLP(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    flops_forward = 2 * (64 * 128 + 128 * 10)
    flops_training = 3 * flops_forward - 2 * 64 * 128


class CNN(Net):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (side // 4) ** 2, 10),
        )


class SmallCNN(CNN):
    def __init__(self) -> None:
        super().__init__(8)


class LargeCNN(CNN):
    def __init__(self) -> None:
        super().__init__(28)


class Digits(LightningDataModule):
    """scikit-learn's digits; ``rows`` is what a user would write to train on a subset by hand."""

    def __init__(self, rows: np.ndarray | None = None, *, images: bool = False, copies: int = 1) -> None:
        super().__init__()
        self.rows, self.images, self.copies = rows, images, copies

    def setup(self, stage=None):
        digits = load_digits()
        inputs = torch.tensor(digits.data / 16, dtype=torch.float32).repeat(self.copies, 1)
        if self.images:
            inputs = inputs.view(-1, 1, 8, 8)
        self.data = TensorDataset(inputs, torch.tensor(digits.target).repeat(self.copies))

    def train_dataloader(self):
        data = self.data if self.rows is None else Subset(self.data, self.rows.tolist())
        return DataLoader(data, batch_size=BATCH, shuffle=True)

    def predict_dataloader(self):
        return DataLoader(self.data, batch_size=BATCH)


class LargeDigits(Digits):
    """10 000 images of 28×28: digits enlarged, shifted, with noise."""

    def setup(self, stage=None):
        digits = load_digits()
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randint(len(digits.data), (10_000,), generator=generator)
        small = torch.tensor(digits.images / 16, dtype=torch.float32)[chosen, None]
        large = nn.functional.interpolate(small, size=(20, 20), mode="bilinear")
        inputs = torch.zeros(len(chosen), 1, 28, 28)
        shifts = torch.randint(0, 8, (len(chosen), 2), generator=generator).tolist()
        for i, (x, y) in enumerate(shifts):
            inputs[i, :, y : y + 20, x : x + 20] = large[i]
        inputs += 0.1 * torch.randn(inputs.shape, generator=generator)
        self.data = TensorDataset(inputs, torch.tensor(digits.target)[chosen])


def quieten() -> None:
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def by_hand(model, data, plan: SubsetPlan, model_id: int, epochs: int) -> float:
    """What a user writes: a new Trainer for each subset, then a prediction pass over everything; wall seconds.

    With one thread, which is faster for steps this small than torch's default, and robust on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _by_hand(model, data, plan, model_id, epochs)
    finally:
        torch.set_num_threads(threads)


def _by_hand(model, data, plan: SubsetPlan, model_id: int, epochs: int) -> float:
    started = time.perf_counter()
    seed_everything(plan.model_seed(model_id), verbose=False)
    pl_module = model()
    datamodule = data(np.flatnonzero(plan.mask(model_id)))
    trainer = Trainer(max_epochs=epochs, **QUIET)
    trainer.fit(pl_module, datamodule=datamodule)
    logits = torch.cat(trainer.predict(pl_module, datamodule=datamodule))
    correct = (logits.argmax(1) == datamodule.data.tensors[1]).numpy()
    assert correct.shape == (plan.n_examples,)
    return time.perf_counter() - started
