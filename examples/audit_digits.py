"""Audit a model from Python: which training examples does it memorize, and in which groups?

Trains a small network on many random subsets of scikit-learn's digits (15 training labels are wrong on purpose), prints
the most memorized examples and the groups they are in, and saves the report. Run it again to go on where it stopped:

    python examples/audit_digits.py
    python examples/audit_digits.py --n-models 100
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import Audit

N_TRAIN, N_WRONG = 500, 15
TRAIN, TEST = slice(N_TRAIN), slice(N_TRAIN, None)
torch.set_num_threads(1)  # the fastest for a network this small


class Classifier(LightningModule):
    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(inputs)
        return logits

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        return cross_entropy(self(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.9)


class Digits(TensorDataset):
    """Images and labels, with a column to group by."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, annotation: np.ndarray) -> None:
        super().__init__(images, labels)
        self.annotation = annotation


class DigitsData(LightningDataModule):
    """500 images to train on, some with a wrong label; the other images are the test set."""

    def setup(self, stage: str) -> None:
        images, truth = load_digits(return_X_y=True)
        labels = truth.copy()
        wrong = np.random.default_rng(0).choice(N_TRAIN, N_WRONG, replace=False)
        labels[wrong] = (labels[wrong] + 1) % 10
        inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
        annotation = np.where(labels == truth, "right", "wrong")
        self.train, self.test = (Digits(inputs[rows], targets[rows], annotation[rows]) for rows in (TRAIN, TEST))

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.train, batch_size=50, shuffle=True)

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.test, batch_size=500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-models", type=int, default=12)
    parser.add_argument("--max-epochs", type=int, default=20)
    parser.add_argument("--out", default="digits-audit", help="folder for the record and the report")
    options = parser.parse_args()
    audit = Audit(
        Classifier,
        DigitsData,
        trainer={"max_epochs": options.max_epochs, "accelerator": "cpu"},
        n_models=options.n_models,
        store=f"{options.out}/store",
        groups={"digit": "label", "annotation": "annotation"},
    )
    report = audit.run()
    report.save(options.out)
    print(report.summary())
    memorization = report.memorization
    table = memorization.to_frame()  # a pandas DataFrame where pandas is installed, else a dict of arrays
    print("\nmost memorized examples:")
    for row in np.lexsort((-memorization.low, -memorization.score))[:5]:
        print(
            f"  example {table['index'][row]}, label {table['label'][row]}: {table['memorization'][row]:.2f} "
            f"[{table['low'][row]:.2f}, {table['high'][row]:.2f}], annotation {table['annotation'][row]}"
        )


if __name__ == "__main__":
    main()
