import numpy as np
import pytest

from lightning_memaudit.record import Record
from lightning_memaudit.sections.impact import impact_section
from tests.helpers.treated import TreatedStore

LABELS = {"train": np.arange(12) % 3, "test": np.zeros(40, dtype=int)}
GROUPS = {"g": {"train": ["a"] * 12, "test": ["a"] * 20 + ["b"] * 20}}
PRIVACY = {"epsilon": 2.994, "delta": 1e-5, "noise_multiplier": 1.25}


def record(kind, *, privacy=None, **settings):
    treatment = {"class": f"lightning_memaudit.treatments.private.{kind}", "max_grad_norm": 1.0, "lr": 0.5}
    return {
        "treatment": treatment | {"max_epochs": None} | settings,
        "trains": True,
        "regime": {"n_examples": 8},
        "privacy": privacy,
    }


def right_but(n_wrong, n_models=3):
    correct = np.ones((n_models, 40), dtype=bool)
    correct[:, :n_wrong] = False
    return {"test": correct}


def arms(tmp_path, *, clip=None, **settings):
    known = TreatedStore(tmp_path, LABELS, GROUPS)
    known.fill("baseline", right_but(0))
    if clip is not None:
        known.fill("clip-only", right_but(4), record=clip)
    known.fill("dpsgd-eps3", right_but(10), record=record("DPSGD", privacy=PRIVACY, **settings))
    return impact_section(Record(known.store)).to_dict()["arms"]


def test_a_private_drop_is_split_into_clipping_and_noise(tmp_path) -> None:
    found = arms(tmp_path, clip=record("ClipOnly"))
    split = found["dpsgd-eps3"]["decomposition"]
    assert (split["clip_only"], split["n_models"]) == ("clip-only", 3)
    overall, rows = split["overall"], {row["group"]: row for row in split["by_group"]["g"]}
    assert [overall[cause]["drop"] for cause in ("total", "clipping", "noise")] == pytest.approx([0.25, 0.1, 0.15])
    assert overall["difference"] == pytest.approx(-0.05)
    assert [rows["a"][cause]["drop"] for cause in ("total", "clipping", "noise")] == pytest.approx([0.5, 0.2, 0.3])
    assert rows["a"]["noise"]["low"] < 0.3 < rows["a"]["noise"]["high"]
    assert rows["b"]["total"]["drop"] == 0
    (note,) = found["dpsgd-eps3"]["notes"]
    assert note.startswith("ε = 2.99 at δ = 1e-05 (noise multiplier 1.25) is that of one model")
    assert (
        "for a training set of 8 examples, the size of a subset and not of all the data; neighbouring data sets differ "
        "by one example that is added or removed." in note
    )
    assert "δ is not below" not in note
    assert "not trained with DP-SGD" in found["clip-only"]["decomposition"]["reason"]


@pytest.mark.parametrize(
    "clip",
    [
        None,
        record("ClipOnly", max_grad_norm=2.0),
        record("ClipOnly", lr=None),
        record("ClipOnly", max_epochs=3),
        record("DPSGD"),
    ],
)
def test_without_its_clip_only_arm_a_private_arm_is_misleading(tmp_path, clip) -> None:
    arm = arms(tmp_path, clip=clip)["dpsgd-eps3"]
    assert arm["decomposition"]["status"] == "unavailable"
    assert any("passes for the price of privacy" in note for note in arm["notes"])
    assert not any("learning rate is the baseline's" in note for note in arm["notes"])


def test_a_learning_rate_that_nobody_chose_is_misleading(tmp_path) -> None:
    arm = arms(tmp_path, clip=record("ClipOnly", lr=None), lr=None)["dpsgd-eps3"]
    assert arm["decomposition"]["status"] == "ok"
    assert any("learning rate is the baseline's" in note for note in arm["notes"])


def test_a_large_delta_is_said(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS).fill("full/baseline", right_but(0))
    privacy = PRIVACY | {"n_examples": 12, "delta": 0.1}
    known.fill("full/dpsgd-eps3", right_but(2), record=record("DPSGD", privacy=privacy))
    arm = impact_section(Record(known.store)).to_dict()["arms"]["full/dpsgd-eps3"]
    assert "δ is not below 1/n = 0.083: " in arm["notes"][-1]


def test_a_budget_on_all_data_is_for_all_data(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS).fill("full/baseline", right_but(0))
    known.fill("full/dpsgd-eps3", right_but(2), record=record("DPSGD", privacy=PRIVACY | {"n_examples": 12}))
    arm = impact_section(Record(known.store)).to_dict()["arms"]["full/dpsgd-eps3"]
    assert "is that of one model, for a training set of 12 examples; neighbouring" in arm["notes"][-1]
    assert arm["by_memorization"]["slope"]["reason"] == "the store has no baseline models on subsets of the data"
