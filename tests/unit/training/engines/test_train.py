"""Whatever the engine, every model that was asked for is in the store, trained once."""

from __future__ import annotations

import gc
import tracemalloc
from functools import partial
from typing import Any

import pytest
import torch

from lightning_memaudit import SubsetPlan
from lightning_memaudit.data.randomness import seeded
from lightning_memaudit.exceptions import StoreError, TrainingError
from lightning_memaudit.outcomes.shard_files import read_shard
from lightning_memaudit.training.engines import train as engines
from lightning_memaudit.training.engines.choice import Decision, EngineChoice
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.engines.train import train_here
from tests.helpers import zoo
from tests.helpers.engines import PLAN, assert_same_scores, by_trainer, elsewhere, run_probed, stored

WAYS = [("trainer", 1), ("in-memory", 1), ("ensemble", 2)]


def decided(run: Any, engine: str, chunk_size: int = 1) -> Decision:
    data = None if engine == "trainer" else read_into_memory(run.population)
    return Decision(EngineChoice(engine, chunk_size), data)


@pytest.mark.parametrize(("engine", "chunk_size"), WAYS)
def test_every_model_is_trained_and_told(engine, chunk_size) -> None:
    run = run_probed(zoo.Counts, max_epochs=1)
    store = run.store
    ids = [0, 1, 2, 5, 9]
    assert list(train_here(run, ids, decided(run, engine, chunk_size))) == ids
    assert store.model_ids() == ids
    assert store.verify() == []
    for split in store.splits():
        loaded = store.load(split=split)
        assert loaded.mask.shape[0] == len(ids)
    assert stored(store, 0)["train"]["margin"][0] != stored(store, 1)["train"]["margin"][0]


def spied(real: Any, trained: list[int], run: Any, which: Any, *rest: Any, **options: Any) -> Any:
    trained += which if isinstance(which, list) else [which]
    return real(run, which, *rest, **options)


@pytest.mark.parametrize(("engine", "chunk_size"), WAYS)
def test_models_that_others_stored_meanwhile_are_passed_over(engine, chunk_size, monkeypatch) -> None:
    run = run_probed(zoo.Counts, max_epochs=1)
    store, other = run.store, elsewhere(run)
    decision = decided(run, engine, chunk_size)
    list(train_here(other, [3, 4], decision))
    fields = ("correct", "margin", "loss", "prediction")
    shard = read_shard(other.store.storage, other.store.manifest, "baseline", 3, fields)
    trained: list[int] = []
    for name in ("train_model", "train_in_memory", "train_chunk"):
        monkeypatch.setattr(engines, name, partial(spied, getattr(engines, name), trained))
    told = train_here(run, [1, 2, 3, 4], decision)
    found = [next(told)]
    store.write(shard)
    assert found + list(told) == [1, 2, 3, 4]
    assert trained == [1, 2, 4]


@pytest.mark.parametrize(("engine", "chunk_size"), WAYS)
def test_models_that_are_stored_from_the_start_were_asked_for_since_they_are_damaged(engine, chunk_size) -> None:
    run = run_probed(zoo.Counts, max_epochs=1)
    store = run.store
    decision = decided(run, engine, chunk_size)
    list(train_here(run, [0, 1], decision))
    expected = stored(store, 1)
    path = "outcomes/baseline/000001.npz"
    store.storage.write(path, store.storage.read(path)[:-40])
    assert list(train_here(run, [1], decision)) == [1]
    assert store.verify() == []
    assert_same_scores(stored(store, 1), expected)


class StopsLate(zoo.Stops):
    """Later than a trial looks."""

    def __init__(self) -> None:
        super().__init__(at=17)


class ReadsTheLossLate(zoo.Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if self.current_epoch == 3:
            self.latest = loss.item()
        return loss


class ScalesLate(zoo.Net):
    """Binds a buffer anew."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch >= 3:
            self.scale = self.scale * 0.9
        return super().training_step(batch, batch_idx) * self.scale


class ThawsLate(zoo.Net):
    def __init__(self) -> None:
        super().__init__()
        self.net[0].weight.requires_grad = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch >= 3:
            self.net[0].weight.requires_grad = True
        return super().training_step(batch, batch_idx)


class DrawsLate(zoo.Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, *rest = batch
        if self.current_epoch >= 3:
            x = x + 0.1 * torch.randn_like(x)
        return super().training_step((x, *rest), batch_idx)


class ScoresOdd(zoo.Net):
    """Its answer in evaluation is beyond ``vmap``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        return logits if self.training or float(logits.sum()) > 1e9 else 2 * logits


def first_odd() -> int:
    """The first model of the plan whose constants are not those of model 0."""
    constants = []
    for k in range(12):
        with seeded(PLAN.model_seed(k)):
            constants.append(zoo.RandomConstant().constants)
    return next(k for k in range(12) if constants[k] != constants[0])


@pytest.mark.parametrize(("engine", "chunk_size"), WAYS)
@pytest.mark.parametrize(
    "model", [StopsLate, ReadsTheLossLate, ScalesLate, ThawsLate, DrawsLate, ScoresOdd, zoo.RandomConstant]
)
def test_what_comes_up_late_is_done_in_a_slower_way(model, engine, chunk_size) -> None:
    run = run_probed(model)
    store = run.store
    ids = [0, first_odd()]
    assert list(train_here(run, ids, decided(run, engine, chunk_size))) == ids
    for model_id in ids:
        assert_same_scores(stored(store, model_id), by_trainer(run, model_id).scores)


def test_subsets_of_different_sizes_are_trained_one_by_one() -> None:
    plan = SubsetPlan(zoo.N, design="bernoulli", subset_fraction=0.5, seed=0)
    run = run_probed(zoo.Counts, plan=plan, max_epochs=1)
    store = run.store
    ids = range(6)
    assert len({int(plan.mask(k).sum()) for k in ids}) > 1
    assert list(train_here(run, ids, decided(run, "ensemble", 6))) == list(ids)
    for model_id in ids:
        assert_same_scores(stored(store, model_id), by_trainer(run, model_id).scores)


class FailsLate(zoo.Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 7:
            raise ValueError("no such row")
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(("engine", "chunk_size"), WAYS)
def test_an_error_of_the_users_code_names_the_model(engine, chunk_size) -> None:
    run = run_probed(FailsLate)
    store = run.store
    with pytest.raises(TrainingError, match="model 4 failed in your code: ValueError: no such row"):
        list(train_here(run, [4, 5], decided(run, engine, chunk_size)))
    assert store.model_ids() == []


@pytest.mark.parametrize(("engine", "chunk_size"), WAYS)
def test_a_store_that_cannot_be_written_is_told_as_such(engine, chunk_size, monkeypatch) -> None:
    run = run_probed(zoo.Counts, max_epochs=1)
    store = run.store

    def full(*_: Any, **__: Any) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(type(store), "write", full)
    with pytest.raises(StoreError, match="disk full"):
        list(train_here(run, [4, 5], decided(run, engine, chunk_size)))


class Wide(zoo.Net):
    def __init__(self) -> None:
        super().__init__()
        self.ballast = torch.nn.Parameter(torch.zeros(100_000))


@pytest.mark.parametrize("engine", ["in-memory", "ensemble"])
def test_memory_does_not_grow_with_the_number_of_models(engine) -> None:
    """A warm process keeps far less of a model than its weights take."""
    run = run_probed(Wide, max_epochs=1)
    store = run.store
    decision = decided(run, engine, 4)
    memory, tensors = [], []
    gc.freeze()  # what there was before is not looked at
    tracemalloc.start()
    try:
        for start in range(0, 20, 4):
            ids = range(start, start + 4)
            list(train_here(run, ids, decision))
            for k in ids:
                store.storage.remove(f"outcomes/baseline/{k:06d}.npz")  # this store is in memory itself
            gc.collect()
            memory.append(tracemalloc.get_traced_memory()[0])
            tensors.append(sum(type(thing) in (torch.Tensor, torch.nn.Parameter) for thing in gc.get_objects()))
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    assert tensors[-1] - tensors[1] < 12
    assert (memory[-1] - memory[1]) / 12 < 20_000  # of 400 kB
