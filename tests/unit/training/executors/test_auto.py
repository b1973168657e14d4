import logging
import threading
from pathlib import Path

import pytest

from lightning_memaudit import Audit
from lightning_memaudit.training.executors import Auto, auto
from lightning_memaudit.training.timing import Thresholds
from lightning_memaudit.training.workers import dispatch
from tests.helpers.tiny import TRAINER, TinyData, TinyNet

EAGER = Auto(thresholds=Thresholds(use_workers=0.0))  # takes workers whatever they gain


def audit(store, **options) -> Audit:
    settings = {"model": TinyNet, "data": TinyData, "trainer": TRAINER, "n_models": 4, "store": store}
    return Audit(**(settings | options))


def test_a_store_in_memory_is_left_to_this_process() -> None:
    store = audit("memory://auto", executor=EAGER).train(progress=False)
    assert len(store.model_ids()) == 4
    assert "processes" not in store.manifest.execution
    store.storage.clear()


def test_where_there_is_no_posix_it_does_without(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(dispatch, "processes_can_start", lambda: False)
    store = audit(tmp_path, executor=EAGER).train(progress=False)
    assert len(store.model_ids()) == 4
    assert "processes" not in store.manifest.execution


def test_what_cannot_be_sent_is_trained_in_one_process(tmp_path: Path, monkeypatch, caplog) -> None:
    class Locked(TinyData):
        lock_of_the_user = threading.Lock()

    monkeypatch.setattr(auto, "default_workers", lambda _: 2)
    with caplog.at_level(logging.WARNING, "lightning_memaudit"):
        store = audit(tmp_path, data=Locked, executor=EAGER).train(progress=False)
    assert len(store.model_ids()) == 4
    [record] = [record for record in caplog.records if record.name.startswith("lightning_memaudit")]
    assert record.getMessage().startswith("one process instead of 2: executor: data cannot be sent")


@pytest.mark.parametrize("engine", ["trainer", "in-memory"])
def test_it_goes_on_where_a_failed_pool_left_off(engine: str, tmp_path: Path, monkeypatch) -> None:
    """A worker may find only after a while that it cannot rebuild what it was sent."""
    trained = []

    class Counts(TinyNet):
        def on_train_end(self):
            if self.trainer.current_epoch:
                trained.append(self.trainer.datamodule.model_id)

    def breaks_down(run, model_ids, decision, engine, pool):
        yield from auto.train_here(run, model_ids[:2], decision)
        raise auto.NotSentError("cannot be rebuilt")

    monkeypatch.setattr(auto, "default_workers", lambda _: 2)
    monkeypatch.setattr(auto, "train_in_processes", breaks_down)
    monkeypatch.setattr(auto, "engines_to_try", lambda _: (engine,))
    store = audit(tmp_path, model=Counts, n_models=6, executor=EAGER).train(progress=False)
    assert store.model_ids() == list(range(6))
    assert store.manifest.execution["engine"] == engine
    assert trained[-6:] == list(range(6))


def test_lightnings_own_loop_is_timed_before_workers_are_asked_for(tmp_path: Path, monkeypatch) -> None:
    asked = []

    def spy(run, model_ids, decision, engine, pool):
        asked.extend(model_ids)
        return auto.train_here(run, model_ids, decision)

    monkeypatch.setattr(auto, "default_workers", lambda _: 2)
    monkeypatch.setattr(auto, "train_in_processes", spy)
    monkeypatch.setattr(auto, "engines_to_try", lambda _: ("trainer",))
    audit(tmp_path / "short").train(progress=False)
    assert asked == []
    audit(tmp_path / "long", executor=EAGER).train(progress=False)
    assert asked == [1, 2, 3]
