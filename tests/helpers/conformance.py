"""What every executor has to do, a function each: tests hold all executors to the same table of them."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.exceptions import ConfigurationError, TrainingError
from lightning_memaudit.training.engines.choice import ChosenEngine
from tests.helpers import zoo
from tests.helpers.engines import FIELDS, PLAN, STACKABLE, probed, run_of
from tests.helpers.workers import shards, wait_for, workers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_memaudit.training.executors import Executor
    from lightning_memaudit.training.run import Run

IDS = (0, 1, 2)
_stores = itertools.count()


class FailsLate(zoo.Net):
    """Later than a trial looks, which is 8 steps of 20."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 15:
            raise ValueError("no such row")
        return super().training_step(batch, batch_idx)


class Interrupted(zoo.Net):
    """Ctrl-C arrives while it trains."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 15:
            raise KeyboardInterrupt
        return super().training_step(batch, batch_idx)


def audit(store: str | Path, executor: Any, *, n_models: int = len(IDS), **recipe: Any) -> Audit:
    """Few and short trainings, as those of ``run_of``."""
    settings = {"max_epochs": 4, "accelerator": "cpu"} | {
        name: value for name, value in recipe.items() if name not in {"model", "data", "score_fn"}
    }
    return Audit(
        recipe["model"],
        recipe.get("data", zoo.Data),
        trainer=settings,
        n_models=n_models,
        subset_fraction=PLAN.subset_fraction,
        seed=PLAN.seed,
        score_fn=recipe.get("score_fn", "multiclass"),
        store=store,
        executor=executor,
    )


@cache
def by_trainers(name: str) -> OutcomeStore:
    """What one Trainer a model leaves of a recipe."""
    url = f"memory://agree/{name}"
    OutcomeStore(url).storage.clear()
    return audit(url, "trainer", **STACKABLE[name]).train(progress=False)


def assert_agree(found: OutcomeStore, expected: OutcomeStore, *, exactly: bool) -> None:
    """The same models, masks, shapes and identity; outcomes to the bit, or up to rounding and without a flip."""
    assert found.model_ids() == expected.model_ids()
    assert found.manifest.digests == expected.manifest.digests
    assert found.verify() == []
    for split in expected.splits():
        ours, theirs = found.load(split=split), expected.load(split=split)
        for name in (*FIELDS, "mask", "labels"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            if exactly or name not in {"margin", "loss", "confidence"}:
                assert np.array_equal(a, b), (split, name)
            else:
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def run_in(folder: Path, model: Any = zoo.Net) -> Run:
    """A run on a store of its own in a folder, after its trial."""
    return probed(replace(run_of(model), store=OutcomeStore(folder / f"store-{next(_stores)}")))


def leaves_the_store_of_one_trainer_a_model(executor: Executor, folder: Path) -> None:
    store = audit(folder, executor, **STACKABLE["mlp"]).train(progress=False)
    assert store.manifest.executor == executor.name
    assert_agree(store, by_trainers("mlp"), exactly=store.manifest.execution["engine"] != "ensemble")


def yields_each_model_once_when_it_is_stored_and_keeps_its_decision(executor: Executor, folder: Path) -> None:
    run, engine = run_in(folder), ChosenEngine()
    told = []
    for model_id in executor.train(run, IDS[:2], engine):
        assert run.store.has(model_id)
        told.append(model_id)
    assert sorted(told) == [0, 1]
    decision = engine.decision
    assert decision is not None
    execution = run.store.manifest.execution
    assert execution.items() >= decision.choice.to_dict().items()
    assert [*executor.train(run, [7], engine)] == [7]  # the first model may have any number
    assert engine.decision is decision
    assert run.store.model_ids() == [0, 1, 7]


def trains_what_is_missing_or_damaged_and_leaves_the_rest(executor: Executor, folder: Path) -> None:
    run, engine = run_in(folder), ChosenEngine()
    assert sorted(executor.train(run, IDS[:2], engine)) == [0, 1]
    before = shards(run.store)
    damaged = Path(run.store.storage.path("outcomes/baseline/000001.npz"))
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="run again to train that model anew"):
        missing = run.store.missing(IDS)
    assert missing == [1, 2]
    assert sorted(executor.train(run, missing, ChosenEngine())) == [1, 2]
    after = shards(run.store)
    assert after["000000.npz"] == before["000000.npz"]  # not written again: the same time, the same bytes
    assert run.store.verify() == []
    expected = by_trainers("mlp").load(split="train", model_ids=list(IDS))
    found = run.store.load(split="train", model_ids=list(IDS))
    assert np.array_equal(found.correct, expected.correct)
    assert np.array_equal(found.mask, expected.mask)


def does_nothing_when_there_is_nothing_to_train(executor: Executor, folder: Path) -> None:
    run, engine = run_in(folder), ChosenEngine()
    assert [*executor.train(run, [], engine)] == []
    assert engine.decision is None
    assert run.store.manifest.execution == {}


def does_nothing_before_it_is_asked_for_a_model(executor: Executor, folder: Path) -> None:
    run, engine = run_in(folder), ChosenEngine()
    executor.train(run, IDS, engine)
    assert engine.decision is None
    assert not workers_of(os.getpid())


def names_the_model_when_the_users_code_fails(executor: Executor, folder: Path) -> None:
    run = run_in(folder, FailsLate)
    with pytest.raises(TrainingError, match=r"model [012] failed in your code: ValueError: no such row") as caught:
        list(executor.train(run, IDS, ChosenEngine()))
    assert caught.value.exit_code == 2
    assert "fix it and run again" in str(caught.value)
    assert run.store.model_ids() == []
    assert not run.store.partial_writes()
    assert not workers_of(os.getpid())


def keeps_finished_models_when_it_is_closed(executor: Executor, folder: Path) -> None:
    run = run_in(folder)
    told = executor.train(run, IDS, ChosenEngine())
    first = next(told)
    told.close()  # type: ignore[attr-defined]
    assert run.store.has(first)
    assert run.store.verify() == []
    wait_for(lambda: not workers_of(os.getpid()))


def keeps_finished_models_on_ctrl_c(executor: Executor, folder: Path) -> None:
    run = run_in(folder)
    told = executor.train(run, IDS, ChosenEngine())
    first = next(told)
    with pytest.raises(KeyboardInterrupt):
        told.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert run.store.has(first)
    assert run.store.verify() == []
    wait_for(lambda: not workers_of(os.getpid()))


def lets_ctrl_c_out_of_a_fit(executor: Executor, folder: Path) -> None:
    """Of executors that train in this process; in another, Ctrl-C comes as one of the two above."""
    run = run_in(folder, Interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(executor.train(run, IDS, ChosenEngine()))
    assert run.store.model_ids() == []
    assert not run.store.partial_writes()
    assert not workers_of(os.getpid())


def reaches_a_store_in_memory_or_refuses_it(executor: Executor, folder: Path) -> None:
    run = replace(run_of(zoo.Net), store=OutcomeStore(f"memory://conformance/{folder.name}"))
    run = probed(run)
    if executor.name in {"process", "ray"}:
        with pytest.raises(ConfigurationError, match=r"store='memory://conformance/.*': other processes cannot reach"):
            list(executor.train(run, IDS, ChosenEngine()))
        assert run.store.model_ids() == []
    else:
        assert sorted(executor.train(run, IDS, ChosenEngine())) == [*IDS]
        assert "processes" not in run.store.manifest.execution
    run.store.storage.clear()


CHECKS: tuple[Callable[[Executor, Path], None], ...] = (
    leaves_the_store_of_one_trainer_a_model,
    yields_each_model_once_when_it_is_stored_and_keeps_its_decision,
    trains_what_is_missing_or_damaged_and_leaves_the_rest,
    does_nothing_when_there_is_nothing_to_train,
    does_nothing_before_it_is_asked_for_a_model,
    names_the_model_when_the_users_code_fails,
    keeps_finished_models_when_it_is_closed,
    keeps_finished_models_on_ctrl_c,
    reaches_a_store_in_memory_or_refuses_it,
)
IN_THIS_PROCESS = (lets_ctrl_c_out_of_a_fit,)
