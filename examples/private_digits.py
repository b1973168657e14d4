"""Who pays for DP-SGD: digits of which the classes 3 and 8 are rare, at the learning rate of SGD and at a searched one.

Trains a baseline, models with clipping alone and models with DP-SGD on the same random subsets, and prints what each
takes from the rare digits ("tail") and from the others ("head"), with 95 % intervals. The searched learning rate comes
from training examples that models did not see; the test split plays no part in it.

    python examples/private_digits.py                    # some minutes
    python examples/private_digits.py --epsilon 3
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
from lightning_memaudit.treatments import DPSGD, ClipOnly

RARE, KEPT = (3, 8), 0.1
RATES = (0.1, 0.3, 1.0, 3.0)
torch.set_num_threads(1)  # the fastest for a network this small


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(inputs)
        return logits

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        return cross_entropy(self(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Digits(TensorDataset):
    """Images and labels, with a column to group by."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        super().__init__(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
        self.frequency = np.where(np.isin(labels, RARE), "tail", "head")


class RareDigits(LightningDataModule):
    """70 % of the digits to train on, a tenth of the rare ones; the rest is the test set."""

    def setup(self, stage: str) -> None:
        images, labels = load_digits(return_X_y=True)
        rng = np.random.default_rng(0)
        order = rng.permutation(len(labels))
        train, test = np.split(order, [round(0.7 * len(order))])
        train = train[~np.isin(labels[train], RARE) | (rng.random(len(train)) < KEPT)]
        self.train, self.test = (Digits(images[rows], labels[rows]) for rows in (train, test))

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.train, batch_size=64, shuffle=True)

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.test, batch_size=500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--n-models", type=int, default=20, help="baseline models")
    parser.add_argument("--n-treated-models", type=int, default=8)
    parser.add_argument("--max-epochs", type=int, default=50)
    parser.add_argument("--out", default="private-audit", help="folder for the record and the report")
    options = parser.parse_args()
    private = {"target_epsilon": options.epsilon, "target_delta": 1e-4}
    audit = Audit(
        Classifier,
        RareDigits,
        trainer={"max_epochs": options.max_epochs, "accelerator": "cpu"},
        n_models=options.n_models,
        n_treated_models=options.n_treated_models,
        store=f"{options.out}/store",
        groups={"frequency": "frequency", "digit": "label"},
        treatments=[
            ClipOnly(name="clip-only-sgd-rate"),
            DPSGD(name="dp-sgd-rate", **private),
            ClipOnly(name="clip-only-searched", lr="dp-searched"),
            DPSGD(name="dp-searched", lr=RATES, **private),
        ],
    )
    report = audit.run()
    report.save(options.out)
    arms = report.impact.summary["arms"]
    for name in ("dp-sgd-rate", "dp-searched"):
        print(f"\n{name}: drops in accuracy, in points, with 95 % intervals")
        for row in arms[name]["decomposition"]["by_group"]["frequency"]:
            parts = (f"{cause} {points(row[cause])}" for cause in ("total", "clipping", "noise"))
            print(f"  {row['group']}: {', '.join(parts)}")
    print("\n" + "\n".join(note for note in arms["dp-searched"]["notes"]))


def points(drop: dict[str, float]) -> str:
    return f"{100 * drop['drop']:+.1f} [{100 * drop['low']:+.1f}, {100 * drop['high']:+.1f}]"


if __name__ == "__main__":
    main()
