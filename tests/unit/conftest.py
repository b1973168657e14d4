from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.testing import LookupProblem
from tests.helpers.shared import once


@pytest.fixture(scope="session")
def lookup_store(tmp_path_factory) -> OutcomeStore:
    """A population of a lookup learner whose points 0 and 1 hold a pair of duplicates each."""
    problem = LookupProblem(
        points=np.concatenate([[0, 0, 1, 1], np.arange(2, 30), np.full(20, 30)]),
        labels=np.concatenate([[1, 1, 2, 2], np.resize([1, 2], 28), np.full(20, 1)]),
        n_classes=3,
    )

    def train(store: Path) -> None:
        Audit(
            problem.module,
            problem.datamodule,
            trainer={"max_epochs": 1, "accelerator": "cpu"},
            n_models=120,
            store=store,
            groups={"kind": {"train": ["twin"] * 4 + ["single"] * 28 + ["crowd"] * 20, "test": ["x"] * 31}},
        ).train(progress=False)

    return OutcomeStore(once(tmp_path_factory, "lookup", train))
