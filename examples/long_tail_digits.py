"""The long tail and its price: digits seen through many cameras, a few of them often and most of them hardly ever.

A camera turns, mirrors, inverts or dims a picture in its own way. Digit × camera are 160 subpopulations, whose
frequencies follow Zipf's law in training and test alike, so that dozens of them are seen five times or less. Models are
trained plainly, with clipped gradients, with DP-SGD, and pruned; the report sets what their misfits on rare
subpopulations announce (Feldman 2019) beside the accuracy that is lost.

    python examples/long_tail_digits.py                  # some minutes
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
from lightning_memaudit.treatments import DPSGD, ClipOnly, Prune

N_TRAIN, N_TEST, N_CAMERAS = 1500, 3000, 16
torch.set_num_threads(1)  # the fastest for a network this small


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(inputs)
        return logits

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        return cross_entropy(self(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def taken_by(camera: int, images: np.ndarray) -> np.ndarray:
    """Images[n, 8, 8] as a camera sees them: one of four turns, mirrored or not, inverted or not."""
    seen = np.rot90(images, camera % 4, axes=(1, 2))
    seen = seen[:, :, ::-1] if camera // 4 % 2 else seen
    return 1 - seen if camera // 8 else seen


class Pictures(TensorDataset):
    """Pictures and digits, with a column to group by."""

    def __init__(self, pictures: torch.Tensor, digits: torch.Tensor, subpopulation: list[str]) -> None:
        super().__init__(pictures, digits)
        self.subpopulation = subpopulation


class Cameras(LightningDataModule):
    def setup(self, stage: str) -> None:
        images, digits = load_digits().images / 16, load_digits().target
        rng = np.random.default_rng(0)
        frequency = 1 / np.arange(1, 10 * N_CAMERAS + 1)
        kinds = rng.choice(rng.permutation(10 * N_CAMERAS), size=N_TRAIN + N_TEST, p=frequency / frequency.sum())
        half = rng.random(len(digits)) < 0.5  # test pictures are of other digits than training pictures
        rows = np.array(
            [
                rng.choice(np.flatnonzero((digits == kind % 10) & (half == (i < N_TRAIN))))
                for i, kind in enumerate(kinds)
            ]
        )
        pictures = np.concatenate(
            [taken_by(kind // 10, images[row][None]) for kind, row in zip(kinds, rows, strict=True)]
        )
        inputs = torch.tensor(pictures.reshape(-1, 64), dtype=torch.float32)
        targets = torch.tensor(digits[rows])
        names = [f"{kind % 10} by camera {kind // 10}" for kind in kinds]
        self.train, self.test = (
            Pictures(inputs[part], targets[part], names[part]) for part in (slice(N_TRAIN), slice(N_TRAIN, None))
        )

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.train, batch_size=64, shuffle=True)

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.test, batch_size=500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-models", type=int, default=40)
    parser.add_argument("--n-treated-models", type=int, default=8)
    parser.add_argument("--max-epochs", type=int, default=40)
    parser.add_argument("--out", default="long-tail-audit", help="folder for the record and the report")
    options = parser.parse_args()
    audit = Audit(
        Classifier,
        Cameras,
        trainer={"max_epochs": options.max_epochs, "accelerator": "cpu"},
        n_models=options.n_models,
        n_treated_models=options.n_treated_models,
        store=f"{options.out}/store",
        groups={"subpopulation": "subpopulation"},
        treatments=[ClipOnly(), DPSGD(target_epsilon=8.0, target_delta=1e-4), Prune(0.7), Prune(0.9)],
    )
    report = audit.run()
    report.save(options.out)
    long_tail = report.long_tail.summary
    theory = long_tail["theory"]
    known = long_tail["subpopulations"]
    print(f"\n{known['n']} subpopulations, {known['n_singletons']} of them seen once")
    missing, lost = theory["missing_mass"], theory["no_singleton"]
    print(f"missing mass {100 * missing['estimate']:.1f} % ({100 * missing['low']:.1f} to {100 * missing['high']:.1f})")
    if lost["status"] == "ok":
        print(
            f"lost if no singleton were memorized: {100 * lost['cost']:.1f} points "
            f"({100 * lost['low']:.1f} to {100 * lost['high']:.1f})"
        )
    for entry in long_tail["costs"].values():
        print(entry["sentence"] if entry["status"] == "ok" else entry["reason"])


if __name__ == "__main__":
    main()
