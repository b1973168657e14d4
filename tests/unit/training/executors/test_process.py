import logging
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.training.executors import Process, Ray, auto, find_executor, process
from lightning_memaudit.training.executors.process import can_share, make_parcel
from lightning_memaudit.training.workers import resources
from lightning_memaudit.training.workers.resources import default_workers, share_of_threads, using_threads
from tests.helpers.drivers import Driver
from tests.helpers.tiny import TRAINER, TinyData, TinyNet


def audit(store, **options) -> Audit:
    settings = {"model": TinyNet, "data": TinyData, "trainer": TRAINER, "n_models": 4, "store": store}
    return Audit(**(settings | options))


def population_on(device: str):
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer = SimpleNamespace(strategy=strategy)
    return SimpleNamespace(source=SimpleNamespace(datamodule=SimpleNamespace(trainer=trainer)))


@pytest.mark.parametrize("n_workers", [0, -1, 1.5, "2", True, float("nan")])
def test_a_bad_number_of_workers_is_named(n_workers) -> None:
    with pytest.raises(ArgumentError, match=r"n_workers=.*: an integer of at least 1 is needed"):
        Process(n_workers)


@pytest.mark.parametrize("kind", [Process, Ray])
def test_an_unknown_engine_is_named(kind) -> None:
    with pytest.raises(ArgumentError, match=r"engine='warp': one of trainer, in-memory, ensemble"):
        kind(engine="warp")


@pytest.mark.parametrize("executor", ["warp", "Process", "", None, 3, Process])
def test_an_unknown_executor_is_named(executor, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"executor=.*: one of auto, trainer, sequential, ensemble, process, ray"):
        audit(tmp_path, executor=executor)


def test_executors_by_name_and_with_options() -> None:
    for name in ("auto", "trainer", "sequential", "ensemble", "process", "ray"):
        assert find_executor(name).name == name
    executor = Process(n_workers=3, engine="trainer")
    assert find_executor(executor) is executor


@pytest.mark.parametrize("executor", ["process", "ray"])
def test_a_store_in_the_memory_of_this_process_is_refused(executor: str) -> None:
    with pytest.raises(ConfigurationError, match=r"store='memory://refused': other processes cannot reach it"):
        audit("memory://refused", executor=executor).train(progress=False)
    OutcomeStore("memory://refused").storage.clear()


def test_auto_leaves_a_store_in_memory_to_this_process(monkeypatch) -> None:
    assert not can_share(OutcomeStore("memory://auto"))
    monkeypatch.setattr(auto, "_WORTH_WORKERS", 0.0)
    store = audit("memory://auto").train(progress=False)
    assert len(store.model_ids()) == 4
    assert "processes" not in store.manifest.execution
    store.storage.clear()


def test_where_there_is_no_posix_process_says_so_and_auto_does_without(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(process, "_POSIX", False)
    monkeypatch.setattr(auto, "_WORTH_WORKERS", 0.0)
    with pytest.raises(ConfigurationError, match=r"executor='process' needs a POSIX system.*'ensemble'"):
        audit(tmp_path, executor="process").train(progress=False)
    assert len(audit(tmp_path).train(progress=False).model_ids()) == 4


def test_one_worker_is_this_process_and_sends_nothing(tmp_path: Path) -> None:
    lock = threading.Lock()

    class Locked(TinyData):
        lock_of_the_user = lock

    store = audit(tmp_path, data=Locked, executor=Process(n_workers=1)).train(progress=False)
    assert len(store.model_ids()) == 4
    assert store.manifest.execution["processes"] == 1


def test_what_cannot_be_sent_is_an_error_and_auto_goes_on_in_one_process(tmp_path: Path, monkeypatch, caplog) -> None:
    class Locked(TinyData):
        lock_of_the_user = threading.Lock()

    message = r"executor: data cannot be sent to other processes \(TypeError: cannot pickle '_thread.lock' object\)"
    with pytest.raises(ConfigurationError, match=message):
        audit(tmp_path, data=Locked, executor=Process(n_workers=2)).train(progress=False)
    assert not OutcomeStore(tmp_path).treatments()
    monkeypatch.setattr(auto, "_WORTH_WORKERS", 0.0)
    monkeypatch.setattr(auto, "default_workers", lambda _: 2)
    with caplog.at_level(logging.WARNING, "lightning_memaudit"):
        store = audit(tmp_path, data=Locked).train(progress=False)
    assert len(store.model_ids()) == 4
    [record] = [record for record in caplog.records if record.name.startswith("lightning_memaudit")]
    assert record.getMessage().startswith("one process instead of 2: executor: data cannot be sent")


@pytest.mark.parametrize("engine", ["trainer", "in-memory"])
def test_auto_goes_on_where_a_failed_crew_left_off(engine: str, tmp_path: Path, monkeypatch) -> None:
    """A worker may find only after a while that it cannot rebuild what it was sent."""
    trained = []

    class Counts(TinyNet):
        def on_train_end(self):
            if self.trainer.current_epoch:
                trained.append(self.trainer.datamodule.model_id)

    def breaks_down(population, plan, model_ids, store, decision, crew, *, notes):
        yield from auto.train_here(population, plan, model_ids[:2], store, decision, notes=notes)
        raise auto.NotSentError("cannot be rebuilt")

    monkeypatch.setattr(auto, "_WORTH_WORKERS", 0.0)
    monkeypatch.setattr(auto, "default_workers", lambda _: 2)
    monkeypatch.setattr(auto, "train_in_processes", breaks_down)
    monkeypatch.setattr(auto, "allowed_engines", lambda _: (engine,))
    store = audit(tmp_path, model=Counts, n_models=6).train(progress=False)
    assert store.model_ids() == list(range(6))
    assert store.manifest.execution["engine"] == engine
    assert trained[-6:] == list(range(6))


def test_auto_times_lightnings_own_loop_before_it_asks_for_workers(tmp_path: Path, monkeypatch) -> None:
    asked = []

    def spy(population, plan, model_ids, store, decision, crew, *, notes):
        asked.extend(model_ids)
        return auto.train_here(population, plan, model_ids, store, decision, notes=notes)

    monkeypatch.setattr(auto, "default_workers", lambda _: 2)
    monkeypatch.setattr(auto, "train_in_processes", spy)
    monkeypatch.setattr(auto, "allowed_engines", lambda _: ("trainer",))
    audit(tmp_path / "short").train(progress=False)
    assert asked == []
    monkeypatch.setattr(auto, "_WORTH_WORKERS", 0.0)
    audit(tmp_path / "long").train(progress=False)
    assert asked == [1, 2, 3]


def test_one_worker_a_core_as_far_as_memory_allows(monkeypatch) -> None:
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(resources, "_memory_of_this_process", lambda: 2e9)
    for free, expected in [(1e9, 1), (5e9, 3), (1e12, 16)]:
        monkeypatch.setattr(resources, "_free_memory", lambda free=free: free)
        assert default_workers(population_on("cpu")) == expected


def test_one_worker_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert default_workers(population_on("cuda")) == 4
    assert default_workers(population_on("mps")) == 1


def test_memory_is_measured() -> None:
    assert 5e7 < resources._memory_of_this_process() < 1e11
    assert 1e7 < resources._free_memory() < 1e14


def test_threads_are_shared_out_and_given_back() -> None:
    before = torch.get_num_threads()
    with using_threads(4):
        assert torch.get_num_threads() == 4
        assert [share_of_threads(n) for n in (1, 2, 3, 9)] == [4, 2, 1, 1]
        with pytest.raises(KeyError), using_threads(2):
            raise KeyError
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == before


def test_a_store_is_named_so_that_any_process_finds_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    driver = Driver(Path())
    parts = {"damaged": (), "notes": ()}
    make = (driver.population, driver.plan)
    assert make_parcel(*make, driver.store, driver.decision, **parts).store == str(tmp_path / "store")
    remote = OutcomeStore("memory://bucket/audit")
    assert make_parcel(*make, remote, driver.decision, **parts).store == "memory://bucket/audit"
