"""The built-in problem: scikit-learn's handwritten digits with a long tail and a few wrong labels.

Written as a user would write it: nothing here knows of audits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit.exceptions import ConfigurationError

__all__ = ["DigitsNet", "LongTailedDigits"]


class DigitsNet(LightningModule):
    """A small network that fits its training set, wrong labels included.

    Args:
        width: Hidden units.
        lr: Learning rate of SGD with momentum .9.
    """

    def __init__(self, width: int = 256, lr: float = 0.3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """logits[B, 10] of images[B, 1, 8, 8]."""
        return self.net(x.flatten(1))  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Cross-entropy of one batch."""
        x, y = batch
        loss = torch.nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class Digits(TensorDataset):
    """Images and labels, with what is known of each image.

    Args:
        images: float32[n, 1, 8, 8].
        labels: int64[n], as they are trained on.
        true_labels: int64[n].
        rare: Classes that were thinned out.
    """

    def __init__(
        self, images: torch.Tensor, labels: torch.Tensor, true_labels: torch.Tensor, rare: tuple[int, ...]
    ) -> None:
        super().__init__(images, labels)
        self.frequency = ["rare" if int(label) in rare else "common" for label in true_labels]
        self.annotation = [
            "right" if int(label) == int(true) else "wrong" for label, true in zip(labels, true_labels, strict=True)
        ]


class LongTailedDigits(LightningDataModule):
    """scikit-learn's digits: some classes kept at a few images, some training labels wrong, a clean balanced test set.

    Args:
        rare: Classes that are thinned out.
        keep: How many training images of each rare class are kept.
        n_wrong: How many training labels are replaced by a random other one.
        test_fraction: Share of the images held out for test.
        batch_size: Examples in a batch.
        seed: Seed of split, thinning and wrong labels.
    """

    def __init__(
        self,
        rare: tuple[int, ...] = (3, 5, 8),
        keep: int = 8,
        n_wrong: int = 20,
        test_fraction: float = 0.3,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.rare = tuple(rare)
        self.keep = keep
        self.n_wrong = n_wrong
        self.test_fraction = test_fraction
        self.batch_size = batch_size
        self.seed = seed

    def setup(self, stage: str | None = None) -> None:
        """Load, split, thin out and mislabel."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ConfigurationError(
                "the digits come with scikit-learn: pip install 'lightning-memaudit[demo]'"
            ) from error
        bunch: Any = load_digits()
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(bunch.target))
        n_test = round(self.test_fraction * len(order))
        test, train = order[:n_test], order[n_test:]
        for digit in self.rare:
            of_digit = train[bunch.target[train] == digit]
            train = np.setdiff1d(train, of_digit[self.keep :], assume_unique=True)
        images = torch.tensor(bunch.images / 16.0, dtype=torch.float32).unsqueeze(1)
        truth = torch.tensor(bunch.target, dtype=torch.int64)
        labels = truth.clone()
        common = train[~np.isin(bunch.target[train], self.rare)]
        for row in rng.choice(common, size=self.n_wrong, replace=False):
            labels[row] = (int(truth[row]) + int(rng.integers(1, 10))) % 10
        self.train_data = Digits(images[train], labels[train], truth[train], self.rare)
        self.test_data = Digits(images[test], truth[test], truth[test], self.rare)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled training batches."""
        return DataLoader(self.train_data, batch_size=self.batch_size, shuffle=True)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test batches."""
        return DataLoader(self.test_data, batch_size=512)
