"""Metrics by group: against plain loops, with groups missing, in two processes, in a Trainer, and as figures."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection
from torchmetrics.functional.classification import multiclass_accuracy

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.metrics import SubgroupAccuracy, SubgroupGap, WorstGroupAccuracy
from tests.helpers.forked import Forked
from tests.unit.metrics.batches import NUM_GROUPS, batches

METRICS = (SubgroupAccuracy, SubgroupGap, WorstGroupAccuracy)


def by_hand(parts) -> list[float]:
    logits, target, groups = (torch.cat(x) for x in zip(*parts, strict=True))
    right = logits.argmax(1) == target
    return [float(right[groups == g].double().mean()) for g in range(NUM_GROUPS)]


def expected(parts) -> dict[str, object]:
    values = by_hand(parts)
    seen = [value for value in values if not math.isnan(value)]
    gap = max(seen) - min(seen) if len(seen) > 1 else math.nan
    return {"SubgroupAccuracy": values, "SubgroupGap": gap, "WorstGroupAccuracy": min(seen)}


def near(value):
    return pytest.approx(value, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("kind", METRICS)
def test_batches_add_up_and_a_missing_group_shifts_nothing(kind) -> None:
    metric = kind(NUM_GROUPS)
    for batch in batches():
        assert metric(*batch).tolist() == near(expected([batch])[kind.__name__])
    assert metric.compute().tolist() == near(expected(batches())[kind.__name__])
    assert metric.compute().dtype == torch.float32
    again = pickle.loads(pickle.dumps(copy.deepcopy(metric)))
    assert again.compute().tolist() == near(metric.compute().tolist())
    metric.reset()
    metric.update(*batches()[2])
    assert metric.compute().tolist() == near(expected(batches()[2:3])[kind.__name__])


def test_group_2_of_3_alone_stays_group_2() -> None:
    metric = SubgroupAccuracy(3)
    metric.update(torch.tensor([1, 0]), torch.tensor([1, 1]), torch.tensor([2, 2]))
    assert metric.compute().tolist() == near([math.nan, math.nan, 0.5])
    assert metric.total.tolist() == [0, 0, 2]


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_each_group_is_torchmetrics_accuracy_of_its_rows(rows) -> None:
    preds, target, groups = (torch.tensor(x) for x in zip(*rows, strict=True))
    metric = SubgroupAccuracy(4)
    metric.update(preds, target, groups)
    found = metric.compute()
    for g in range(4):
        mask = groups == g
        oracle = multiclass_accuracy(preds[mask], target[mask], 4, average="micro") if mask.any() else math.nan
        assert float(found[g]) == near(float(oracle))
    one_hot = SubgroupAccuracy(4)
    one_hot.update(torch.nn.functional.one_hot(preds, 4).float(), target, groups)
    assert one_hot.correct.tolist() == metric.correct.tolist()


def test_nothing_seen_or_nothing_to_compare_is_nan_and_nan_logits_are_wrong() -> None:
    worst, gap = WorstGroupAccuracy(2), SubgroupGap(2)
    for metric in (worst, gap):
        metric.update(*(torch.zeros(0, dtype=torch.long) for _ in range(3)))
        assert math.isnan(metric.compute())
        metric.update(torch.tensor([1]), torch.tensor([1]), torch.tensor([0]))
    assert (worst.compute(), math.isnan(gap.compute())) == (1.0, True)
    broken = SubgroupAccuracy(2)
    broken.update(torch.full((2, 3), torch.nan), torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert broken.compute().tolist() == near([0.0, math.nan])


def test_two_gloo_processes_agree_with_one(tmp_path) -> None:
    script = Path(__file__).with_name("ddp_script.py")
    processes = [Forked(script, rank, tmp_path / "rendezvous", tmp_path) for rank in (0, 1)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    whole, first = expected(batches()), expected(batches()[:1])
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        own = batches()[rank::2]
        for name, value in whole.items():
            assert found[name]["together"] == near(value)
            assert found[name]["batches"] == [near(expected([batch])[name]) for batch in own]
            assert found[name]["own"] == sum(len(batch[1]) for batch in own)
            assert found[name]["one rank"] == near(first[name])


def test_collection_shares_the_counts() -> None:
    collection = MetricCollection([kind(NUM_GROUPS) for kind in METRICS])
    for batch in batches():
        collection.update(*batch)
    found = collection.compute()
    assert {name: value.tolist() for name, value in found.items()} == {
        name: near(value) for name, value in expected(batches()).items()
    }
    assert len(collection.compute_groups) == 1


def test_lightning_logs_the_scalars(tmp_path) -> None:
    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.worst, self.gap = WorstGroupAccuracy(NUM_GROUPS), SubgroupGap(NUM_GROUPS)

        def validation_step(self, batch, batch_idx):
            for metric in (self.worst, self.gap):
                metric.update(*batch)
            self.log_dict({"worst": self.worst, "gap": self.gap}, on_epoch=True)

    trainer = Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
        default_root_dir=tmp_path,
    )
    loader = DataLoader(batches(), batch_size=None, num_workers=0)
    found = trainer.validate(Net(), loader, verbose=False)[0]
    assert [found["worst"], found["gap"]] == [
        near(expected(batches())[name]) for name in ("WorstGroupAccuracy", "SubgroupGap")
    ]


@pytest.mark.parametrize("kind", METRICS)
def test_plot(kind) -> None:
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    metric = kind(NUM_GROUPS)
    metric.update(*batches()[0])
    figure, axes = metric.plot()
    assert axes.figure is figure
    points = [line for line in axes.lines if line.get_marker() == "o"]
    values = torch.atleast_1d(metric.compute())
    assert [float(line.get_ydata()[0]) for line in points] == near(values.tolist())
    pyplot.close(figure)
    own = Figure().subplots()
    figure, axes = metric.plot([metric.compute(), metric.compute()], ax=own)
    assert (figure, axes) == (own.figure, own)
    assert len(axes.lines[0].get_ydata()) == 2


BATCH = (torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, torch.tensor([0.2, 0.8]), ["preds", "float32", "threshold"]),
        (0, torch.tensor([[0.2], [0.8]]), ["preds", "2 classes"]),
        (0, torch.tensor([0]), ["preds", "[2]", "int64[1]"]),
        (0, torch.zeros(2, 3, 4), ["preds", "float32[2, 3, 4]"]),
        (1, torch.tensor([0.0, 1.0]), ["target", "integers"]),
        (1, torch.zeros(2, 2, dtype=torch.long), ["target", "int64[2, 2]"]),
        (2, torch.tensor([0]), ["groups", "2 integers", "int64[1]"]),
        (2, torch.tensor([0, -1]), ["groups", "-1"]),
        (2, torch.tensor([0, 2]), ["groups", "[0, 2)", "from 0 to 2"]),
    ],
)
def test_messages_name_the_argument(kind, place, value, words) -> None:
    batch = [*BATCH]
    batch[place] = value
    with pytest.raises(ArgumentError) as caught:
        kind(2).update(*batch)
    assert all(word in str(caught.value) for word in words), caught.value


def test_number_of_groups_is_checked() -> None:
    for kind in METRICS:
        with pytest.raises(ArgumentError, match="num_groups"):
            kind(0)
