"""Every shard once; fields by block and as a whole, in memory and in files."""

from dataclasses import dataclass

import numpy as np
import pytest

from lightning_memaudit import AuditReport, OutcomeStore, evaluate_gate
from lightning_memaudit.exceptions import MismatchError, MissingDataError
from lightning_memaudit.outcomes.shard_files import shard_path
from lightning_memaudit.record import Reads, Record, Wanted
from lightning_memaudit.record.pairs import paired_arm
from tests.helpers.reads import CountingStorage
from tests.helpers.treated import TreatedStore

LABELS = {"train": np.arange(90) % 3, "test": np.arange(50) % 3}
N_MODELS = 12
KEPT = ("margin", "loss", "prediction", "confidence")


def known_store(folder) -> TreatedStore:
    """A baseline, arms made from it and from rebuilt models, one trained on all data, and two splits."""
    rng = np.random.default_rng(0)
    known = TreatedStore(folder, LABELS, {"half": {s: (np.arange(len(y)) % 2).tolist() for s, y in LABELS.items()}})
    mask = known.plan.masks(range(N_MODELS))
    base = {"train": mask | (rng.random(mask.shape) < 0.6), "test": rng.random((N_MODELS, 50)) < 0.9}
    worse = {split: right & (rng.random(right.shape) < 0.8) for split, right in base.items()}
    known.fill("baseline", base, confidence={"test": np.full((N_MODELS, 50), 0.9)})
    known.fill("prune-0.9", {split: right[:4] for split, right in worse.items()})
    known.fill("rebuilt", {split: right[4:6] for split, right in base.items()}, ids=[4, 5])
    known.fill("noise", {split: right[4:6] for split, right in worse.items()}, ids=[4, 5], made_from="rebuilt")
    full = {split: right[:2] for split, right in base.items()}
    known.fill("full/baseline", full)
    known.fill("full/prune-0.9", {split: right[:2] for split, right in worse.items()})
    return known


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> TreatedStore:
    return known_store(tmp_path_factory.mktemp("record"))


@pytest.fixture
def counted(filled) -> tuple[OutcomeStore, CountingStorage]:
    storage = CountingStorage(filled.url)
    return OutcomeStore(storage), storage


def shards_of(store: OutcomeStore) -> set[str]:
    return {shard_path(arm, k) for arm in store.treatments() for k in OutcomeStore(store.url).model_ids(arm)}


def test_a_report_reads_every_file_once(counted) -> None:
    store, storage = counted
    content = AuditReport.from_store(store).content
    assert {name for name, entry in content.items() if isinstance(entry, dict) and entry.get("status") == "ok"} >= {
        "memorization", "accuracy", "impact", "long_tail",
    }  # fmt: skip
    assert shards_of(store) <= storage.n_reads.keys()
    assert set(storage.n_reads.values()) == {1}


def test_a_gate_on_a_store_reads_every_shard_once(counted) -> None:
    store, storage = counted
    kinds = ("drop", "excess_drop", "accuracy", "gap", "memorization", "memorization_prevalence")
    rules = {kind: {"kind": kind, "margin": 0.5} for kind in kinds} | {
        "stricter": {"kind": "memorization_prevalence", "margin": 0.5, "threshold": 0.5}
    }
    result = evaluate_gate(store, {"schema": 1, "rules": rules})
    assert {row.rule.name for row in result.rows} == rules.keys()
    assert shards_of(store) <= storage.n_reads.keys()
    assert {storage.n_reads[name] for name in shards_of(store)} == {1}


def test_a_gate_reads_no_arm_that_no_rule_is_about(counted) -> None:
    store, storage = counted
    evaluate_gate(store, {"schema": 1, "rules": {"m": {"kind": "memorization", "margin": 0.5}}})
    read = {name.split("/")[1] for name in storage.n_reads if name.endswith(".npz") and name.startswith("outcomes")}
    assert read == {"baseline"}


def test_a_comparison_of_two_stores_reads_the_shards_of_each_once(tmp_path, counted) -> None:
    store, storage = counted
    other = CountingStorage(known_store(tmp_path).url)
    rules = {m: {"kind": "regression", "metric": m, "margin": 0.1} for m in ("accuracy", "drop", "memorization")}
    evaluate_gate(store, {"schema": 1, "rules": rules}, baseline=OutcomeStore(other))
    for read in (storage, other):
        assert {read.n_reads[name] for name in shards_of(store)} == {1}


@pytest.mark.parametrize("memory_limit", [0, 2000, 2**28])
def test_what_is_read_is_what_was_written_wherever_it_is_kept(filled, memory_limit) -> None:
    record = Record(filled.store, memory_limit=memory_limit)
    record.read(Reads(whole=tuple(Wanted("baseline", split, KEPT) for split in LABELS)))
    arm = record.arm("baseline")
    for split in LABELS:
        loaded = filled.store.load("baseline", split)
        np.testing.assert_array_equal(arm.correct(split), loaded.correct)
        np.testing.assert_array_equal(arm.mask(), loaded.mask)
        for name in KEPT:
            values = arm.values(split, name)
            np.testing.assert_array_equal(values, getattr(loaded, name))
            assert values.dtype == getattr(loaded, name).dtype
            rows, columns = np.array([5, 2]), np.array([7, 3, 20])
            np.testing.assert_array_equal(
                arm.values(split, name, rows, columns), getattr(loaded, name)[np.ix_(rows, columns)]
            )
            np.testing.assert_array_equal(
                arm.values(split, name, rows, slice(3, 11)), getattr(loaded, name)[rows, 3:11]
            )
    assert record.scratch.n_bytes_in_memory <= memory_limit
    assert (record.scratch.n_files > 0) == (memory_limit < 2**28)


def test_a_report_is_the_same_from_memory_and_from_files_in_small_blocks(filled) -> None:
    first, second = (
        AuditReport.from_store(record).content
        for record in (Record(filled.store), Record(filled.store, memory_limit=0, block_examples=7))
    )
    assert first | {"created": ""} == second | {"created": ""}


def test_only_the_models_that_are_compared_are_kept_of_a_base(filled) -> None:
    record = Record(filled.store)
    record.read(Reads(whole=(Wanted("prune-0.9", "test", ("loss",), with_base=True),)))
    pair = paired_arm(record, "prune-0.9", "test")
    np.testing.assert_array_equal(pair.base.loss, filled.store.load("baseline", "test").loss[:4])
    with pytest.raises(KeyError):
        record.arm("baseline").values("test", "loss")
    with pytest.raises(KeyError):
        record.arm("baseline").values("train", "loss", np.array([0]))


def test_models_of_several_bases_stand_in_the_order_of_the_treated_ones(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS)
    right = np.random.default_rng(1).random((6, 50)) < 0.5
    known.fill("baseline", {"test": right[:4]})
    known.fill("rebuilt", {"test": right[4:]}, ids=[4, 5])
    for k, source in ((0, ""), (4, "rebuilt"), (2, ""), (5, "rebuilt"), (9, "")):
        known.fill("noise", {"test": ~right[[k % 6]]}, ids=[k], made_from=source)
    pair = paired_arm(Record(known.store), "noise", "test")
    assert pair.model_ids.tolist() == [0, 2, 4, 5]
    assert pair.without_base == (9,)
    np.testing.assert_array_equal(pair.base.correct, right[[0, 2, 4, 5]])
    np.testing.assert_array_equal(pair.treated.correct, ~right[[0, 2, 4, 5]])


@dataclass(frozen=True)
class Losses:
    """Sums losses by example, as a section would."""

    arm: str
    split: str = "test"

    @property
    def wants(self):
        return (Wanted(self.arm, self.split, ("loss",)),)

    def start(self, record):
        if not record.arm(self.arm).n_models:
            raise MissingDataError(f"arm {self.arm!r} has no model")
        return Sums(self)


class Sums:
    def __init__(self, consumer) -> None:
        self.consumer, self.parts, self.starts = consumer, [], []

    def consume(self, block) -> None:
        values = block.values(self.consumer.arm, "loss")
        assert values.shape[1] == block.correct(self.consumer.arm).shape[1]
        self.parts.append(values.sum(axis=0))
        self.starts.append(block.columns.start)

    def finish(self):
        return np.concatenate(self.parts), self.starts


def test_all_consumers_take_part_in_one_pass(counted) -> None:
    store, _ = counted
    record = Record(store, block_examples=16)
    record.read(Reads((Losses("baseline"),)), Reads((Losses("baseline"), Losses("prune-0.9"), Losses("none"))))
    for arm in ("baseline", "prune-0.9"):
        sums, starts = record.result(Losses(arm))
        np.testing.assert_allclose(sums, store.load(arm, "test").loss.sum(axis=0), rtol=1e-6)
        assert starts == [0, 16, 32, 48]
    with pytest.raises(MissingDataError, match="no model"):
        record.result(Losses("none"))
    assert record.result(Losses("prune-0.9", "train"))[0].shape == (90,)  # declared too late: read a second time


def test_shares_are_kept_as_they_are_beside_bits(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS)
    shares = np.random.default_rng(2).random((2, 50)).astype(np.float32)
    known.fill("baseline", {"test": np.ones((2, 50), dtype=bool)})
    known.fill("baseline", {"test": shares}, ids=[2, 3])
    arm = Record(known.store).arm("baseline")
    np.testing.assert_array_equal(arm.correct("test"), np.concatenate([np.ones((2, 50), np.float32), shares]))
    assert (arm.is_binary("test"), arm.is_binary("train")) == (False, True)
    np.testing.assert_array_equal(arm.correct("test", np.array([3]), np.array([4, 1])), shares[1][[4, 1]][None])


def test_class_numbers_of_any_size_are_kept(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS)
    predictions = np.stack([np.full(50, 3), np.full(50, 70_000)])
    known.fill("baseline", {"test": np.ones((2, 50), dtype=bool)}, prediction={"test": predictions})
    record = Record(known.store)
    record.read(Reads(whole=(Wanted("baseline", "test", ("prediction",)),)))
    np.testing.assert_array_equal(record.arm("baseline").values("test", "prediction"), predictions)
    assert record.arm("baseline").largest_prediction("test").tolist() == [3, 70_000]


def test_damaged_shards_are_named_once_and_left_out(tmp_path) -> None:
    known = known_store(tmp_path)
    known.store.storage.write(shard_path("baseline", 3), b"damaged")
    record = Record(known.store)
    with pytest.warns(UserWarning, match="000003") as said:
        record.read(Reads(whole=(Wanted("baseline", "test", ("loss",)),)))
    assert len(said) == 1
    assert 3 not in record.model_ids()
    np.testing.assert_array_equal(
        record.arm("baseline").values("test", "loss"),
        known.store.load("baseline", "test", model_ids=record.model_ids()).loss,
    )
    assert paired_arm(record, "prune-0.9", "test").without_base == (3,)


def test_shards_of_another_audit_are_refused(tmp_path) -> None:
    known = known_store(tmp_path / "ours")
    other = TreatedStore(tmp_path / "theirs", {"train": LABELS["train"], "test": LABELS["test"][::-1]})
    other.fill("baseline", {"test": np.ones((1, 50), dtype=bool)})
    name = shard_path("baseline", 0)
    known.store.storage.write(name, other.store.storage.read(name))
    with pytest.raises(MismatchError, match="another data"):
        Record(known.store).arm("baseline")


def test_what_is_not_there_is_said(filled) -> None:
    record = Record(filled.store)
    with pytest.raises(MissingDataError, match="no model of arm 'nobody'"):
        record.outcomes("nobody")
    with pytest.raises(MissingDataError, match="no split 'val'"):
        record.outcomes(split="val")


def test_files_go_with_the_record(filled) -> None:
    record = Record(filled.store, memory_limit=0)
    record.read(Reads(whole=(Wanted("baseline", "test", ("loss",)),)))
    folder = record.scratch.folder
    assert folder is not None
    assert list(folder.iterdir())
    del record
    assert not folder.exists()
