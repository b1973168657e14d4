"""What a store keeps to wherever it is: whole files, going on, other runs refused, damage named, gaps known."""

from __future__ import annotations

import io
import json
import pickle
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lightning_memaudit.data.groups import Grouping
from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.exceptions import (
    ArgumentError,
    CorruptShardError,
    MismatchError,
    MissingDataError,
    StoreError,
)
from lightning_memaudit.outcomes.examples import Examples
from lightning_memaudit.outcomes.manifest import Manifest
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.outcomes.store import OutcomeStore
from tests.helpers.stores import LABELS, PLAN, fill, manifest, shard

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(place: str | Path) -> OutcomeStore:
    return fill(place)


def file_of(model_id: int) -> str:
    return f"outcomes/baseline/{model_id:06d}.npz"


def arrays_of(store: OutcomeStore, model_id: int) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(store.storage.read(file_of(model_id)))) as file:
        return {name: file[name] for name in file.files}


def put(store: OutcomeStore, model_id: int, **arrays: Any) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    store.storage.write(file_of(model_id), content.getvalue())


def assert_damaged(store: OutcomeStore, damaged: list[int]) -> None:
    """Every face of the store names the damaged shards, and only them, as those to train again."""
    names = [file_of(k) for k in damaged]
    assert [problem.path for problem in store.verify()] == names
    assert all(name[-10:] in problem.reason for name, problem in zip(names, store.verify(), strict=True))
    with pytest.warns(UserWarning, match="shard") as caught:
        assert store.missing(range(5)) == sorted({*damaged, 4})
    assert len(caught) == len(damaged)
    assert all(name[-10:] in str(warning.message) for name, warning in zip(names, caught, strict=True))
    with pytest.raises(StoreError, match=names[0][-10:]):
        store.load()


# Whole files


def test_nothing_is_there_before(place: str | Path) -> None:
    store = OutcomeStore(place)
    assert not store.exists
    with pytest.raises(MissingDataError, match="no audit is recorded there"):
        store.manifest  # noqa: B018
    assert store.treatments() == store.model_ids() == store.partial_writes() == []
    assert store.missing([3, 1]) == [3, 1]


def test_what_was_written_is_found_by_another(store: OutcomeStore) -> None:
    again = OutcomeStore(store.url)
    assert again.model_ids() == [0, 1, 2, 3]
    assert again.missing(range(6)) == [4, 5]
    assert again.treatments() == ["baseline"]
    assert again.verify() == again.partial_writes() == []
    assert again.bytes_on_disk() == sum(len(store.storage.read(file_of(k))) for k in range(4)) > 0
    loaded = again.load(split="test", fields=("loss",))
    assert loaded.loss.shape == (4, 5)
    assert loaded.margin.shape == (4, 0)
    np.testing.assert_array_equal(loaded.mask, PLAN.masks(range(4)))
    np.testing.assert_array_equal(loaded.labels, LABELS["test"])
    assert again.examples("train").groups["g"].names == ("a", "b", "c")
    store.write(shard(0, PLAN.complete()), arm="full/baseline")
    assert again.treatments() == ["baseline", "full/baseline"]
    for missing in ({"split": "val"}, {"arm": "dpsgd-eps3"}, {"model_ids": [9]}):
        with pytest.raises(MissingDataError):
            again.load(**missing)
    with pytest.raises(ArgumentError, match="margins"):
        again.load(fields=("margins",))


def test_unfinished_files_are_never_read_and_go_when_they_are_old(store: OutcomeStore) -> None:
    store.write(shard(0, PLAN.complete()), arm="full/baseline")
    storage = Storage(store.url)
    for name in ("a.tmp", "outcomes/full/baseline/b.tmp", f"{file_of(4)}.ab.tmp"):
        storage._write_partial(name, b"half")
    assert len(store.partial_writes()) == 3
    assert store.verify() == []
    assert not store.has(4)
    assert store.missing(range(5)) == [4]
    store.remove_stale_partial_writes()
    assert len(store.partial_writes()) == 3  # young: a living writer's
    time.sleep(0.01)
    for folder in ("", "outcomes/full/baseline", "outcomes/baseline"):
        assert len(storage.remove_partial(folder, older_than=0)) == 1
    assert store.partial_writes() == []
    storage.clear()
    assert not OutcomeStore(store.url).exists


def test_a_write_that_fails_leaves_what_was_there(store: OutcomeStore) -> None:
    class Fails(Storage):
        def _write_partial(self, name: str, content: bytes) -> None:
            super()._write_partial(name, content[: len(content) // 2])
            raise OSError(28, "No space left on device")

    before = store.storage.read(file_of(0))
    store.storage = Fails(store.url)
    for model_id in (0, 9):
        with pytest.raises(StoreError, match="free some space and run again"):
            store.write(shard(model_id))
    again = OutcomeStore(store.url)
    assert again.storage.read(file_of(0)) == before
    assert again.model_ids() == [0, 1, 2, 3]
    assert again.verify() == again.partial_writes() == []


def test_a_file_is_created_once(place: str | Path) -> None:
    storage = Storage(place)
    assert storage.create("manifest.json", b"first")
    assert not storage.create("manifest.json", b"second")
    assert storage.read("manifest.json") == b"first"


def test_model_numbers_beyond_six_digits_sort_as_numbers(store: OutcomeStore) -> None:
    for model_id in (1_000_000, 999_999, 12_345_678):
        store.write(shard(model_id))
    store.storage.write("outcomes/baseline/1.npz", b"")  # not ours
    assert store.model_ids() == [0, 1, 2, 3, 999_999, 1_000_000, 12_345_678]


def test_has_looks_for_the_file_alone(store: OutcomeStore) -> None:
    assert store.has(3)
    assert not store.has(4)
    assert not store.has(3, "dpsgd-eps3")
    store.storage.write(file_of(3), b"damaged")
    assert store.has(3)
    store.remove(3, "baseline")
    assert not store.has(3)
    store.remove(3, "baseline")


# Going on


def test_a_store_is_opened_again_by_the_same_run_whatever_the_executor(store: OutcomeStore) -> None:
    store.open(replace(manifest(), executor="process", notes=("x",)))
    assert store.manifest == manifest()
    store.record_execution({"engine": "ensemble"})
    again = OutcomeStore(store.url)
    assert again.manifest.execution == {"engine": "ensemble"}
    assert again.open(manifest()).identity == manifest().identity
    assert again.model_ids() == [0, 1, 2, 3]
    store.write(shard(4))
    assert again.missing(range(5)) == []


def test_the_record_of_stopping_comes_back(store: OutcomeStore) -> None:
    assert store.stopping() is None
    store.write_stopping({"n_models": 4})
    assert OutcomeStore(store.url).stopping() == {"n_models": 4}


def test_groups_that_are_recorded_later_are_merged(store: OutcomeStore) -> None:
    labels = LABELS["train"]
    more = {"g": Grouping(labels[::-1].copy(), ("x", "y", "z")), "h": Grouping(labels, ("p", "q", "r"))}
    store.write_examples("train", Examples(21, labels, {"h": more["h"]}))
    assert set(store.examples("train").groups) == {"g", "h"}
    store.write_examples("train", Examples(21, labels, {"g": more["g"]}))
    known = OutcomeStore(store.url).examples("train").groups
    assert {name: group.names for name, group in known.items()} == {"g": ("x", "y", "z"), "h": ("p", "q", "r")}
    assert known["g"].codes.tolist() == labels[::-1].tolist()
    store.storage.write("examples/train.npz", b"damaged")
    store.write_examples("train", Examples(21, labels, {"h": more["h"]}))
    assert set(store.examples("train").groups) == {"h"}


# Damage


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.95, 0.999])
def test_a_truncated_shard_is_named_and_retrained(store: OutcomeStore, share: float) -> None:
    whole = store.storage.read(file_of(2))
    store.storage.write(file_of(2), whole[: int(share * len(whole))])
    assert_damaged(store, [2])
    store.write(shard(2))
    assert store.verify() == []


@pytest.mark.parametrize("member", ["train/margin", "train/correct", "meta"])
def test_an_array_exchanged_in_a_valid_zip_is_noticed(store: OutcomeStore, member: str) -> None:
    arrays = arrays_of(store, 1)
    if member == "meta":
        arrays["meta"] = np.array(json.dumps(json.loads(str(arrays["meta"])) | {"wall_seconds": 0.0}))
    else:
        arrays[member] = arrays[member][::-1].copy() if member == "train/correct" else arrays[member] + 1
    put(store, 1, **arrays)
    assert_damaged(store, [1])
    assert "digest" in store.verify()[0].reason


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("raw", [False, True])
def test_a_pickle_inside_is_refused_and_never_loaded(store: OutcomeStore, tmp_path: Path, raw: bool) -> None:
    bomb = Bomb(str(tmp_path / "marker"))
    if raw:
        store.storage.write(file_of(1), pickle.dumps(bomb))
    else:
        put(store, 1, **arrays_of(store, 1) | {"train/loss": np.array([bomb], dtype=object)})
    assert_damaged(store, [1])
    assert "pickle" in store.verify()[0].reason
    assert not (tmp_path / "marker").exists()


def test_shards_of_something_else_are_named_and_retrained(store: OutcomeStore) -> None:
    store.storage.write(file_of(2), store.storage.read(file_of(3)))
    other = replace(shard(1), mask_checksum="0" * 16, digests=manifest().digests)
    store.storage.write(file_of(1), other.to_bytes())
    assert_damaged(store, [1, 2])
    reasons = [problem.reason for problem in store.verify()]
    assert "another subset" in reasons[0]
    assert "holds model 3" in reasons[1]


def test_a_shard_that_lacks_a_split_or_rows_is_not_written(store: OutcomeStore) -> None:
    whole = shard(1)
    for splits, match in [({"train": whole.splits["train"]}, "no split 'test'"), (shard(1, n_test=4).splits, "4 rows")]:
        with pytest.raises(CorruptShardError, match=match):
            store.write(replace(whole, splits=splits))
    with pytest.raises(MismatchError, match="recorded under another plan"):
        store.write(shard(1, SubsetPlan(21, seed=9)))


def test_damage_to_manifest_and_examples_is_named(store: OutcomeStore) -> None:
    whole = store.storage.read("manifest.json")
    for content in (
        whole[:100],
        b"[]",
        whole.replace(b'"lr": 0.1', b'"lr": 0.2'),
        whole.replace(b'"seed": 3', b'"seed": 4'),
    ):
        store.storage.write("manifest.json", content)
        assert [problem.path for problem in store.verify()] == ["manifest.json"]
        with pytest.raises(CorruptShardError, match=r"manifest\.json cannot be read"):
            OutcomeStore(store.url).model_ids()
    store.storage.write("manifest.json", whole.replace(b'"schema": 1', b'"schema": 9'))
    with pytest.raises(MismatchError, match="schema 9"):
        OutcomeStore(store.url).model_ids()
    store.storage.write("manifest.json", whole)
    good = store.storage.read("examples/train.npz")
    other = Examples(21, LABELS["train"][::-1].copy())
    for content in (good[:200], other.to_bytes(), good[:300] + b"\x00" * 9 + good[309:]):
        store.storage.write("examples/train.npz", content)
        assert [problem.path for problem in store.verify()] == ["examples/train.npz"]


# Other runs


def test_other_runs_are_refused_with_both_digests(store: OutcomeStore) -> None:
    for aspect, other in [("model", {"class": "Other"}), ("optimisation", {"lr": 0.2}), ("scoring", {"score_fn": "g"})]:
        ours, theirs = manifest(), manifest(**{aspect: other})
        with pytest.raises(MismatchError, match=f"another {aspect}.*--store NEW") as caught:
            OutcomeStore(store.url).open(theirs)
        assert ours.digests[aspect] in str(caught.value)
        assert theirs.digests[aspect] in str(caught.value)
    with pytest.raises(MismatchError, match=r"another plan.*seed: 3 there, 5 here"):
        store.open(manifest(SubsetPlan(21, seed=5)))
    assert Manifest.from_json(manifest().to_json(), url="x") == manifest()


@pytest.mark.parametrize("aspect", ["plan", "data", "model", "optimisation", "scoring"])
def test_shards_of_other_settings_are_neither_mixed_nor_trained_over(store: OutcomeStore, aspect: str) -> None:
    """The manifest was removed, and made anew by a run with other settings."""
    store.storage.remove("manifest.json")
    changed = {
        "plan": lambda: manifest(SubsetPlan(21, seed=4)),
        "data": lambda: replace(manifest(), identity=replace(manifest().identity, data=other_inputs())),
    }.get(aspect, lambda: manifest(**{aspect: {"other": 1}}))()
    again = OutcomeStore(store.url)
    again.open(changed)
    for use in (again.model_ids, lambda: again.missing(range(5)), again.load):
        with pytest.raises(
            MismatchError, match=rf"000000\.npz was recorded under another {aspect}.*--store NEW"
        ) as caught:
            use()
        assert manifest().digests[aspect] in str(caught.value)
        assert changed.digests[aspect] in str(caught.value)
        assert caught.value.exit_code == 4
    assert len(again.verify()) == 4
    with pytest.raises(MismatchError, match=f"another {aspect}"):
        again.write(replace(shard(7), digests=manifest().digests))


def other_inputs() -> dict[str, Any]:
    return {split: known | {"inputs": "y"} for split, known in manifest().identity.data.items()}
