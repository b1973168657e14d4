"""Who pays for clipping, privacy and pruning, among 48,842 people: race × sex × income, on UCI's Adult data.

Download https://archive.ics.uci.edu/static/public/2/adult.zip (CC BY 4.0; Becker and Kohavi 1996), put adult.data and
adult.test of it into a folder, and name the folder:

    python examples/adult.py --data adult

A small network that predicts who earns more than 50,000 dollars is trained on random subsets, plainly, with clipped
gradients, and with DP-SGD; plain ones are also pruned. Every group is listed, whatever its size: where the interval is
wide, the data cannot say. (One adult.csv or adult.csv.gz with a header and a column `split` is read as well.)
"""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import Audit
from lightning_memaudit.data.groups import Frequency, Intersection
from lightning_memaudit.treatments import DPSGD, ClipOnly, Prune

URL = "https://archive.ics.uci.edu/static/public/2/adult.zip"
COLUMNS = [
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
]
NUMBERS = ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week")
TEXTS = ("workclass", "marital-status", "occupation", "relationship", "race", "sex", "native-country")
GROUPING = "race x sex x income"
torch.set_num_threads(1)  # the fastest for a network this small


def read(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The people of both splits; an unknown value is an empty text."""
    raw = {split: folder / name for split, name in (("train", "adult.data"), ("test", "adult.test"))}
    if all(path.is_file() for path in raw.values()):
        texts = {split: path.read_text(encoding="utf-8").splitlines() for split, path in raw.items()}
        splits = {split: csv.reader(lines, skipinitialspace=True) for split, lines in texts.items()}
        people = {
            split: [dict(zip(COLUMNS, row, strict=True)) for row in rows if len(row) == len(COLUMNS)]
            for split, rows in splits.items()
        }
    else:
        table = next((folder / name for name in ("adult.csv", "adult.csv.gz") if (folder / name).is_file()), None)
        if table is None:
            raise SystemExit(f"{folder} has no adult.data and adult.test; download {URL} and unpack it there")
        with gzip.open(table, "rt") if table.suffix == ".gz" else table.open() as file:
            rows = list(csv.DictReader(file))
        people = {split: [row for row in rows if row["split"] == split] for split in raw}
    for row in (row for rows in people.values() for row in rows):
        row.update({name: "" for name in COLUMNS if row[name] == "?"}, income=row["income"].rstrip("."))
    return people


class Census(LightningDataModule):
    """UCI's own split; numbers are standardised, texts one-hot, both as the training split has them."""

    train: TensorDataset
    test: TensorDataset

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def setup(self, stage: str) -> None:
        people = read(self.folder)
        numbers = {split: self.numbers(rows) for split, rows in people.items()}
        center, scale = numbers["train"].mean(0), numbers["train"].std(0) + 1e-6
        values = {name: sorted({row[name] for row in people["train"]}) for name in TEXTS}
        for split, rows in people.items():
            known = [[row[name] == value for name in TEXTS for value in values[name]] for row in rows]
            inputs = np.hstack([(numbers[split] - center) / scale, np.array(known)])
            labels = torch.tensor([row["income"] == ">50K" for row in rows])
            dataset = TensorDataset(torch.tensor(inputs, dtype=torch.float32), labels.long())
            for name in ("race", "sex", "income", "native-country"):  # columns of the data set, to group by
                setattr(dataset, name, [row[name] for row in rows])
            setattr(self, split, dataset)

    @staticmethod
    def numbers(rows: list[dict[str, str]]) -> np.ndarray:
        table = np.array([[float(row[name]) for name in NUMBERS] for row in rows])
        table[:, 2:4] = np.log1p(table[:, 2:4])  # capital gains and losses are mostly 0, and then thousands
        return table

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.train, batch_size=256, shuffle=True)

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.test, batch_size=2048)


class Network(LightningModule):
    """LayerNorm, not BatchNorm: DP-SGD needs the gradient of each example by itself."""

    def __init__(self, n_inputs: int, width: int = 64) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(n_inputs, width), torch.nn.LayerNorm(width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(inputs)
        return logits

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        return cross_entropy(self(inputs), targets)

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
        # On 9,761 people held out of adult.data, rates from .05 to .8 differ by less than a point of accuracy in each
        # arm, plain, clipped and private. Where the best ones differ, give a treatment its own: ClipOnly(lr=...).
        optimizer = torch.optim.SGD(self.parameters(), lr=0.4, momentum=0.9)
        epochs = self.trainer.max_epochs or 1  # None where steps alone are limited
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help=f"folder with adult.data and adult.test, from {URL}")
    parser.add_argument("--n-models", type=int, default=20)
    parser.add_argument("--n-treated-models", type=int, default=5, help="models of each treatment")
    parser.add_argument("--max-epochs", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=1.0, help="privacy budget of one model of DP-SGD")
    parser.add_argument("--out", default="adult-audit", help="folder for the record and the report")
    options = parser.parse_args()
    census = Census(options.data)
    census.setup("fit")
    n_inputs = census.train.tensors[0].shape[1]
    audit = Audit(
        lambda: Network(n_inputs),
        lambda: Census(options.data),
        trainer={"max_epochs": options.max_epochs, "accelerator": "cpu"},
        n_models=options.n_models,
        store=f"{options.out}/store",
        treatments=[ClipOnly(), DPSGD(target_epsilon=options.epsilon), Prune(0.9)],
        n_treated_models=options.n_treated_models,
        groups={
            GROUPING: Intersection("race", "sex", "income"),
            "race x sex": Intersection("race", "sex"),
            "country": Frequency("native-country", counts=(50, 1000)),  # people of rare countries are the tail
        },
    )
    report = audit.run()
    report.save(options.out)
    print(report.summary())
    columns = report.impact.columns()  # report.impact.to_frame() is a pandas DataFrame where pandas is installed
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for arm in report.impact.arms:
        print(f"\n{arm}: accuracy on the test split, and what it loses with its 95 % interval")
        for row in rows:
            if (row["arm"], row["grouping"]) == (arm, GROUPING):
                print(f"  {row['group']:36} {row['n']:5} people  {described(row)}")


def described(row: dict[str, Any]) -> str:
    if row["n"] == 0:
        return str(row["verdict"])
    return (
        f"{row['base']:6.1%} → {row['treated']:6.1%}   {row['drop']:+6.1%} [{row['low']:+6.1%}, {row['high']:+6.1%}]  "
        f"{row['verdict']}"
    )


if __name__ == "__main__":
    main()
