import dataclasses
import json

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import Audit, SubsetDataModule
from lightning_memaudit.data.randomness import preserved_randomness
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.functional.intervals import wilson
from lightning_memaudit.training.arms import learning_rate as search_module
from lightning_memaudit.training.arms.arms import regime_of
from lightning_memaudit.training.arms.learning_rate import LearningRateSearch, TriedRate, search_learning_rate
from lightning_memaudit.training.run import Length
from lightning_memaudit.treatments import DPSGD, ClipOnly, Prune
from tests.helpers import zoo

TRAINER = {"max_epochs": 2, "accelerator": "cpu"}


class NeverTested(zoo.Data):
    """Nobody may ask for its test or validation data."""

    def test_dataloader(self):
        raise AssertionError("the test data were asked for")

    def val_dataloader(self):
        raise AssertionError("the validation data were asked for")

    def setup(self, stage=None):
        assert stage == "fit"


class Digits(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        x, y = load_digits(return_X_y=True)
        self.train = TensorDataset(torch.tensor(x / 16, dtype=torch.float32)[:600], torch.tensor(y)[:600])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=64, shuffle=True)

    def test_dataloader(self):
        raise AssertionError("the test data were asked for")


class DigitsNet(zoo.Net):
    def layers(self) -> nn.Module:
        return nn.Linear(64, 10)


def audit(tmp_path, model=zoo.Net, data=NeverTested, **options):
    return Audit(model, data, **{"trainer": TRAINER, "store": tmp_path / "store"} | options)


def test_on_digits_the_better_rate_is_found(tmp_path):
    """At the baseline's rate clipped steps hardly move the weights, and at 1000 they jump about."""
    private = DPSGD(target_epsilon=8.0, target_delta=1e-4)
    digits = audit(tmp_path, DigitsNet, Digits, trainer=TRAINER | {"max_epochs": 3})
    found = search_learning_rate(digits.prepared, private, (1000.0, 0.002, 1.0), n_models=1)
    assert [tried.rate for tried in found.table] == [0.002, 1.0, 1000.0]
    slow, good, wild = found.table
    assert good.low > max(slow.high, wild.high)
    assert found.rate == 1.0
    assert not found.is_at_the_edge
    assert found.treatment == dataclasses.replace(private, lr=1.0)
    assert found.treatment.name == "dpsgd-eps8"


def test_nothing_is_recorded_and_no_other_split_is_read(tmp_path):
    searched = audit(tmp_path)
    state = torch.get_rng_state()
    search_learning_rate(searched.prepared, ClipOnly(), (0.1, 1.0))
    assert not searched.store.exists
    assert not list(tmp_path.rglob("*"))
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(AssertionError, match="validation data were asked for"):
        searched.train(progress=False)  # as the audit itself does


def test_an_audit_is_the_same_after_a_search(tmp_path):
    settings = {"n_models": 2, "data": zoo.Data, "groups": {"kind": "label"}}
    searched, plain = audit(tmp_path / "a", **settings), audit(tmp_path / "b", **settings)
    search_learning_rate(searched.prepared, ClipOnly(), (0.1,), n_models=1)
    stores = [each.train(progress=False) for each in (searched, plain)]
    assert stores[0].splits() == stores[1].splits() == ("train", "test")
    assert stores[0].manifest.identity == stores[1].manifest.identity
    np.testing.assert_array_equal(stores[0].load(split="test").margin, stores[1].load(split="test").margin)
    assert stores[0].examples("test").groups.keys() == {"kind"}


def test_accuracy_is_that_of_the_examples_left_out(tmp_path):
    searched = audit(tmp_path)
    found = search_learning_rate(searched.prepared, ClipOnly(max_grad_norm=0.5), (0.5,), n_models=3)
    plan = searched.plan
    x, y = zoo.examples()
    right = np.full((3, len(y)), np.nan)
    for k in range(3):
        with preserved_randomness():
            torch.manual_seed(plan.model_seed(k))
            module = clipped(plan, k, lr=0.5, max_grad_norm=0.5)
        with torch.no_grad():
            right[k] = (module.eval()(x).argmax(1) == y).numpy()
    right[plan.masks(range(3))] = np.nan
    judged = ~np.isnan(right).all(axis=0)
    by_example = np.nanmean(right[:, judged], axis=0)
    assert found.n_examples == judged.sum()
    assert found.table[0].accuracy == pytest.approx(by_example.mean(), abs=1e-12)
    low, high = wilson(by_example.sum(), judged.sum())
    assert (found.table[0].low, found.table[0].high) == pytest.approx((float(low), float(high)))


def clipped(plan, k, *, lr, max_grad_norm):
    """Model k by hand, with the callbacks that the treatment brings."""
    regime = regime_of(plan, Length(batches=10, batches_per_epoch=5))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    seed_everything(plan.model_seed(k), verbose=False)
    module = zoo.Net()
    callbacks = ClipOnly(lr=lr, max_grad_norm=max_grad_norm).callbacks(regime)
    trainer = Trainer(**TRAINER, **quiet, enable_model_summary=False, callbacks=list(callbacks))
    trainer.fit(module, datamodule=SubsetDataModule(zoo.Data(), plan, k))
    return module


def test_of_equally_good_rates_the_smallest_is_chosen(tmp_path):
    found = search_learning_rate(audit(tmp_path).prepared, ClipOnly(), (1e-6, 1e-8, 1e-7, 1e-7), n_models=1)
    assert len({tried.accuracy for tried in found.table}) == 1
    assert [tried.rate for tried in found.table] == [1e-8, 1e-7, 1e-6]
    assert found.rate == found.treatment.lr == 1e-8
    assert found.is_at_the_edge


def test_a_rate_that_diverges_is_a_bad_one(tmp_path):
    found = search_learning_rate(audit(tmp_path).prepared, ClipOnly(max_grad_norm=1e30), (0.05, 3e38), n_models=1)
    assert found.rate == 0.05
    assert found.table[1].accuracy == 0.0 < found.table[0].accuracy


def test_how_it_was_searched_is_plain_json():
    table = (TriedRate(0.1, 0.5, 0.4, 0.6), TriedRate(0.2, 0.7, 0.6, 0.8), TriedRate(0.4, 0.7, 0.6, 0.8))
    found = LearningRateSearch(ClipOnly(lr=0.2), table, n_models=2, n_examples=90)
    said = json.loads(json.dumps(found.to_dict()))
    assert (said["arm"], said["rate"], said["n_models"], said["n_examples"]) == ("clip-only", 0.2, 2, 90)
    assert said["table"][1] == {"rate": 0.2, "accuracy": 0.7, "low": 0.6, "high": 0.8}
    assert said["is_at_the_edge"] is False


@pytest.mark.parametrize(
    ("treatment", "rates", "options", "named"),
    [
        (ClipOnly(), (), {}, "rates=.*at least one learning rate"),
        (ClipOnly(), (0.1, 0.0), {}, r"positive numbers are needed, and 0\.0 is not one"),
        (ClipOnly(), (0.1, float("nan")), {}, "and nan is not one"),
        (ClipOnly(), (float("inf"),), {}, "and inf is not one"),
        (ClipOnly(), ("0.1",), {}, r"and '0\.1' is not one"),
        (ClipOnly(), 0, {}, r"rates=\[0\]"),
        (ClipOnly(), (0.1,), {"n_models": 0}, "n_models.*a whole number of at least 1"),
        (Prune(0.5), (0.1,), {}, r"treatment=Prune.*: one with a learning rate of its own"),
        (ClipOnly, (0.1,), {}, "treatment=<class"),
        ("dpsgd", (0.1,), {}, "treatment='dpsgd'"),
    ],
)
def test_bad_arguments(treatment, rates, options, named, tmp_path):
    with pytest.raises(ArgumentError, match=named):
        search_learning_rate(audit(tmp_path).prepared, treatment, rates, **options)


def test_a_module_that_cannot_be_private_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"'net\.1' \(BatchNorm1d\)"):
        search_learning_rate(audit(tmp_path, zoo.BatchNorm).prepared, ClipOnly(), (0.1,))


def searching(store, *treatments, **options):
    settings = {"trainer": TRAINER, "n_models": 4, "n_treated_models": 2, "executor": "sequential"}
    return Audit(zoo.Net, zoo.Data, store=store, treatments=treatments, **settings | options)


def test_an_audit_searches_once_and_says_how(tmp_path, monkeypatch):
    private = DPSGD(target_epsilon=8.0, target_delta=1e-3, lr=(0.5, 1e-7))
    treatments = (ClipOnly(lr="dpsgd-eps8"), private)
    store = searching(tmp_path, *treatments).train(progress=False)
    record = store.arm("dpsgd-eps8")
    assert record.treatment["lr"] == record.lr_search["rate"] == 0.5
    assert "lr_search" not in record.treatment
    assert [row["rate"] for row in record.lr_search["table"]] == [1e-7, 0.5]
    clipped = store.arm("clip-only")
    assert (clipped.treatment["lr"], clipped.lr_search) == (0.5, record.lr_search)

    monkeypatch.setattr(search_module, "search_learning_rate", None)  # what is on record is not searched again
    report = searching(tmp_path, *treatments, n_treated_models=3).run(progress=False)
    arm = report.impact.summary["arms"]["dpsgd-eps8"]
    assert arm["n_models"] == 3
    assert arm["record"]["lr_search"] == record.lr_search
    assert arm["decomposition"]["clip_only"] == "clip-only"
    first, second = record.lr_search["table"]
    how = (
        f"The learning rate 0.5 was searched for dpsgd-eps8: it has the best accuracy of 1e-07 "
        f"({100 * first['accuracy']:.1f} %), 0.5 ({100 * second['accuracy']:.1f} %), each from 2 models on the "
        f"{record.lr_search['n_examples']} training examples"
    )
    assert any(note.startswith(how) for note in arm["notes"])
    assert any("one beyond it may be better" in note for note in arm["notes"])
    assert how.replace("_", "\\_") in report.to_markdown()


def test_the_rate_that_was_found_by_hand_is_said_too(tmp_path):
    found = search_learning_rate(searching(tmp_path).prepared, ClipOnly(), (0.1, 0.5), n_models=1)
    store = searching(tmp_path, found.treatment).train(progress=False)
    assert store.arm("clip-only").lr_search == found.to_dict()
    again = searching(tmp_path, ClipOnly(lr=found.rate)).train(
        progress=False
    )  # the same treatment, however it was found
    assert again.arm("clip-only").lr_search == found.to_dict()


def test_the_test_split_is_not_read_by_the_search_of_an_audit(tmp_path):
    class Guarded(zoo.Data):
        reads = 0

        def test_dataloader(self):
            Guarded.reads += 1
            return super().test_dataloader()

    searched = Audit(zoo.Net, Guarded, trainer=TRAINER, store=tmp_path)
    searched.prepared  # noqa: B018 - the data are set up, and looked at once
    reads = Guarded.reads
    search_learning_rate(searched.prepared, ClipOnly(), (0.1, 0.5))
    assert Guarded.reads == reads


def test_a_rate_of_no_treatment_is_named(tmp_path):
    message = (
        r"lr='dpsgd': treatment 'clip-only' needs the name of a treatment with a learning rate of its own; "
        r"there is dpsgd-eps8"
    )
    with pytest.raises(ArgumentError, match=message):
        searching(tmp_path, ClipOnly(lr="dpsgd"), DPSGD(target_epsilon=8.0, lr=0.3))
    with pytest.raises(ArgumentError, match="there is none"):
        searching(tmp_path, ClipOnly(lr="dpsgd-eps8"), DPSGD(target_epsilon=8.0))


@pytest.mark.parametrize("lr", [(), (0.1, -1.0), 0.0])
def test_a_bad_rate_is_named(lr):
    with pytest.raises(ArgumentError, match=r"lr=.*: a positive learning rate is needed, or several to try"):
        ClipOnly(lr=lr)


def test_several_rates_go_with_an_audit_only():
    regime = regime_of(searching("memory://rates").plan, Length(batches=10, batches_per_epoch=5))
    with pytest.raises(ArgumentError, match="an audit searches it before it trains"):
        ClipOnly(lr=(0.1, 0.2)).callbacks(regime)
