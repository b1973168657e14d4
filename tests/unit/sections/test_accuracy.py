import json

import numpy as np
import pytest

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.record import Record
from lightning_memaudit.record.estimates import ERROR, GAP
from lightning_memaudit.sections.accuracy import accuracy_section
from tests.helpers.treated import TreatedStore

LABELS = {"train": np.arange(12) % 3, "test": np.arange(8) % 2}
GROUPS = {"race": {"train": ["a", "b", "c"] * 4, "test": ["a"] * 4 + ["b"] * 4}, "train only": {"train": ["p"] * 12}}


def section_of(known):
    summary = accuracy_section(Record(known.store)).to_dict()
    json.dumps(summary, allow_nan=False)
    return summary


def test_every_arm_by_hand(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS, GROUPS)
    treated = np.ones((2, 8), dtype=bool)
    treated[:, 4], treated[0, 5] = False, False
    known.fill("baseline", {"test": np.ones((3, 8), dtype=bool)}).fill("prune-0.9", {"test": treated})
    known.fill("rebuilt", {"test": treated})
    summary = section_of(known)
    assert list(summary["arms"]) == ["baseline", "prune-0.9"]
    assert summary["split"] == {"name": "test", "kind": "test"}
    base, pruned = summary["arms"].values()
    assert (base["n_models"], base["overall"]["accuracy"]) == (3, 1)
    assert pruned["overall"]["accuracy"] == pytest.approx(13 / 16)
    race = {row["group"]: row for row in pruned["by_group"]["race"]["rows"]}
    assert (race["a"]["accuracy"], race["b"]["accuracy"]) == (1, pytest.approx(5 / 8))
    assert race["b"]["gap"] == pytest.approx(13 / 16 - 5 / 8)
    assert race["b"]["low"] < 5 / 8 < race["b"]["high"]
    assert (race["c"]["n"], race["c"]["accuracy"], race["c"]["statistics"]) == (0, None, {"error": None, "gap": None})
    assert "no grouping 'train only'" in pruned["by_group"]["train only"]["reason"]
    error = ERROR.of_rows([race["b"]["statistics"]["error"]])
    assert error.estimate[0] == pytest.approx(3 / 8)
    assert GAP.of_rows([race["b"]["statistics"]["gap"]]).estimate[0] == pytest.approx(3 / 16)


def test_on_the_training_split_models_without_the_example_are_judged(tmp_path) -> None:
    known = TreatedStore(tmp_path, {"train": np.arange(30) % 3})
    mask = known.plan.masks(range(4))
    known.fill("baseline", {"train": mask}).fill("full/prune-0.9", {"train": np.ones((2, 30), dtype=bool)})
    arms = section_of(known)["arms"]
    assert arms["baseline"]["overall"]["accuracy"] == 0
    assert arms["baseline"]["overall"]["n_missing"] == mask.all(axis=0).sum()
    assert "trained on every example" in arms["full/prune-0.9"]["reason"]


def test_an_empty_store_has_no_accuracy(tmp_path) -> None:
    with pytest.raises(MissingDataError, match="no model"):
        accuracy_section(Record(TreatedStore(tmp_path, LABELS).store))
