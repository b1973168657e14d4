"""Fashion-MNIST with a long tail: ten classes of clothes, 2000 pictures of the most frequent and 20 of the rarest.

The classes are thinned out as usual (Cui et al. 2019: n_c = 2000 · 100^(−c/9), the first ones in file order); 200 test
pictures a class. Get the data once, with torchvision or from its four idx files (a Debian package has them), and name
the folder:

    python -c "import torchvision; torchvision.datasets.FashionMNIST('fashion', download=True)"
    python examples/fashion_mnist_lt.py --data fashion

Models are trained plainly, with clipped gradients, with DP-SGD, and pruned. The report sets the cost that their misfits
announce beside the measured one. Classes are no rare subpopulations, and the section says what follows from that.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import Audit
from lightning_memaudit.treatments import DPSGD, ClipOnly, Prune

CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
SIZES = [int(2000 * 100 ** (-c / 9)) for c in range(10)]
N_TEST = 200  # of each class
torch.set_num_threads(1)  # the fastest for a network this small


def read(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images[n, 784] and labels[n] of both splits, from idx files (packed or not) or one fashion_mnist_lt.npz."""
    table = folder / "fashion_mnist_lt.npz"
    if table.is_file():
        with np.load(table) as file:
            return {split: (file[f"x_{split}"].reshape(-1, 784), file[f"y_{split}"]) for split in ("train", "test")}
    found = {}
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = (_idx(folder, f"{name}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        most = SIZES if split == "train" else [N_TEST] * 10
        rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[: most[c]] for c in range(10)]))
        found[split] = images.reshape(len(labels), 784)[rows], labels[rows]
    return found


def _idx(folder: Path, name: str) -> np.ndarray:
    path = next((path for path in (*folder.rglob(name), *folder.rglob(f"{name}.gz"))), None)
    if path is None:
        raise SystemExit(f"{folder} has no {name} or {name}.gz; see the head of this file for where to get the data")
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return np.frombuffer(content, dtype=np.uint8, offset=16 if "idx3" in name else 8)


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(inputs)
        return logits

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        return cross_entropy(self(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Pictures(TensorDataset):
    """Pictures and labels, with a column to group by."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        super().__init__(torch.tensor(images / 255, dtype=torch.float32), torch.tensor(labels.astype(np.int64)))
        self.clothes = [CLOTHES[label] for label in labels]


class Fashion(LightningDataModule):
    train: Pictures
    test: Pictures

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def setup(self, stage: str) -> None:
        for split, (images, labels) in read(self.folder).items():
            setattr(self, split, Pictures(images, labels))

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.train, batch_size=128, shuffle=True)

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.test, batch_size=500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the data")
    parser.add_argument("--n-models", type=int, default=16)
    parser.add_argument("--n-treated-models", type=int, default=5)
    parser.add_argument("--max-epochs", type=int, default=15)
    parser.add_argument("--out", default="fashion-audit", help="folder for the record and the report")
    options = parser.parse_args()
    audit = Audit(
        Classifier,
        Fashion(options.data),
        trainer={"max_epochs": options.max_epochs, "accelerator": "cpu"},
        n_models=options.n_models,
        n_treated_models=options.n_treated_models,
        store=f"{options.out}/store",
        groups={"subpopulation": "clothes"},
        treatments=[ClipOnly(lr=0.2), DPSGD(target_epsilon=8.0, target_delta=1e-5, lr=0.2), Prune(0.7), Prune(0.9)],
    )
    report = audit.run()
    report.save(options.out)
    for entry in report.long_tail.summary["costs"].values():
        print(entry["sentence"] if entry["status"] == "ok" else entry["reason"])


if __name__ == "__main__":
    main()
