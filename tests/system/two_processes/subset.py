"""Trains with two processes inside the wrapper and by hand; run by test_audits.py in a process of its own."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

from torch.utils.data import Subset

sys.path.insert(0, str(Path(__file__).parents[3]))

from lightning_memaudit import SubsetDataModule
from tests.unit.data.toys import PLAN, ROWS, Data, Net, examples, fit


class Reporting(Net):
    way = "in"

    def on_fit_end(self) -> None:
        record = {"seen": self.seen, "weights": [p.tolist() for p in self.parameters()]}
        (Path(sys.argv[1]) / f"{self.way}-{self.global_rank}.json").write_text(json.dumps(record))


class ByHand(Reporting):
    way = "by"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    two = {"strategy": "ddp_fork", "devices": 2, "max_epochs": 1}
    fit(SubsetDataModule(Data(), PLAN, 0), net=Reporting, **two)
    fit(Data(dataset=Subset(examples(), ROWS.tolist())), net=ByHand, **two)
