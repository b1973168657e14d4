"""Real data: digits with 5 % of the labels flipped, a model that fits them and one that does not."""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import Audit, AuditReport

N_FLIPPED = 90  # 5 % of 1797


def flipped_rows() -> np.ndarray:
    return np.random.default_rng(0).choice(1797, size=N_FLIPPED, replace=False)


class FlippedDigits(LightningDataModule):
    def setup(self, stage=None):
        images, labels = load_digits(return_X_y=True)
        labels = labels.copy()
        shift = np.random.default_rng(1).integers(1, 10, size=N_FLIPPED)
        labels[flipped_rows()] = (labels[flipped_rows()] + shift) % 10
        self.data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=64, shuffle=True)


class Net(LightningModule):
    def __init__(self, width: int, lr: float, momentum: float):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
        self.lr, self.momentum = lr, momentum

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)


def audit(folder: Path, net: dict, epochs: int, n_models: int) -> AuditReport:
    trainer = {"max_epochs": epochs, "accelerator": "cpu"}
    return Audit(lambda: Net(**net), FlippedDigits, trainer=trainer, n_models=n_models, store=folder).run(
        progress=False
    )


def test_memorization_tells_flipped_labels_where_the_model_fits_them(tmp_path: Path) -> None:
    report = audit(tmp_path, {"width": 256, "lr": 0.3, "momentum": 0.9}, epochs=60, n_models=60)
    result, flipped = report.memorization, np.isin(np.arange(1797), flipped_rows())
    known = ~np.isnan(result.score)
    assert roc_auc_score(flipped[known], result.score[known]) >= 0.98
    assert report.content["memorization"]["fit"]["status"] == "fitted"
    assert result.in_accuracy[flipped].mean() > 0.9
    assert sum(row["index"] in flipped_rows() for row in report.content["memorization"]["top"]) >= 18


def test_a_model_that_does_not_fit_them_is_said_not_to(tmp_path: Path) -> None:
    report = audit(tmp_path, {"width": 128, "lr": 0.05, "momentum": 0.0}, epochs=30, n_models=20)
    result, fit = report.memorization, report.content["memorization"]["fit"]
    flipped = np.isin(np.arange(1797), flipped_rows())
    assert result.in_accuracy[flipped].mean() < 0.15
    assert fit["status"] == "partly fitted"
    assert fit["n_not_fitted"] >= 0.9 * N_FLIPPED
    assert "not *not memorized*" in report.to_markdown()
    assert "PARTLY FITTED" in report.summary()
