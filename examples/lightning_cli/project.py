"""A project that is trained with LightningCLI; nothing in it knows of audits.

Train one model as ever, or audit it with the same configuration (run both in this folder):

    python project.py fit --config config.yaml
    memaudit run --config config.yaml --config audit.yaml
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)  # the fastest for a network this small


class DigitsNet(LightningModule):
    """A network with one hidden layer. Its optimizer is chosen in the configuration.

    Args:
        width: Hidden units.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(inputs)
        return logits

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        loss = cross_entropy(self(inputs), targets)
        self.log("train_loss", loss)
        return loss


class DigitsData(LightningDataModule):
    """scikit-learn's digits.

    Args:
        n_train: How many images to train on; the others are the test set.
        batch_size: Images in a batch.
    """

    def __init__(self, n_train: int = 500, batch_size: int = 50) -> None:
        super().__init__()
        self.n_train = n_train
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        images, labels = load_digits(return_X_y=True)
        inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
        self.train = TensorDataset(inputs[: self.n_train], targets[: self.n_train])
        self.test = TensorDataset(inputs[self.n_train :], targets[self.n_train :])

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.test, batch_size=500)


if __name__ == "__main__":
    LightningCLI()
