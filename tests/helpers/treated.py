"""A store whose outcomes are known: arms are filled with the correctness that a test wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.data.groups import grouping
from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.outcomes.arms import Arm
from lightning_memaudit.outcomes.examples import Examples, label_digest
from lightning_memaudit.outcomes.manifest import Identity, Manifest
from lightning_memaudit.outcomes.shard import Shard, SplitScores
from lightning_memaudit.outcomes.store import OutcomeStore

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class TreatedStore:
    """Fills a store arm by arm.

    Right answers have loss .1 and margin 2, wrong ones loss 2 and margin −1; a wrong prediction is the next class.
    """

    url: Path | str
    labels: dict[str, np.ndarray]
    groups: dict[str, dict[str, list]] = field(default_factory=dict)
    n_classes: int = 3
    design: str = "fixed_size"

    def __post_init__(self) -> None:
        n = len(self.labels["train"])
        fraction = 0.5 if self.design == "paired" else 0.7
        self.plan = SubsetPlan(n, seed=0, design=self.design, subset_fraction=fraction)
        data = {
            split: {"n_examples": len(labels), "labels": label_digest(labels), "inputs": "x"}
            for split, labels in self.labels.items()
        }
        identity = Identity(self.plan.to_dict(), data, {"class": "Net"}, {"lr": 0.1}, {"score_fn": "f"})
        self.store = OutcomeStore(self.url)
        self.store.open(Manifest(identity, tuple(self.labels)))
        for split, labels in self.labels.items():
            groups = {
                name: grouping(values[split], name=name, n_examples=len(labels))
                for name, values in self.groups.items()
                if split in values
            }
            self.store.write_examples(split, Examples(len(labels), labels, groups))

    def fill(self, arm, correct, *, ids=None, made_from="", record=None, **given):
        """Add models: ``correct`` maps a split to bool[K, n]; a split that is left out is right everywhere.

        ``prediction``, ``loss``, ``margin`` and ``confidence`` may be given in the same form.
        """
        n_models = len(next(iter(correct.values())))
        plan = self.plan.complete() if arm.startswith("full/") else self.plan
        if record is not None:
            self.store.open_arm(Arm(arm, **record))
        for row, model_id in enumerate(range(n_models) if ids is None else ids):
            splits = {}
            for split, labels in self.labels.items():
                right = np.asarray(correct[split][row] if split in correct else np.ones(len(labels), dtype=bool))
                own = {key: value[split][row] for key, value in given.items() if value and split in value}
                splits[split] = SplitScores(
                    right,
                    np.asarray(own.get("margin", np.where(right, 2.0, -1.0)), dtype=np.float32),
                    np.asarray(own.get("loss", np.where(right, 0.1, 2.0)), dtype=np.float32),
                    np.asarray(
                        own.get("prediction", np.where(right, labels, (labels + 1) % self.n_classes)), dtype=np.int32
                    ),
                    np.asarray(own.get("confidence", np.full(len(labels), np.nan)), dtype=np.float32),
                )
            shard = Shard.of_model(plan, model_id, splits, wall_seconds=1.0, made_from=made_from)
            self.store.write(shard, arm=arm)
        return self
