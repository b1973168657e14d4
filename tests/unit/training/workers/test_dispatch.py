from dataclasses import replace
from pathlib import Path

import pytest

from lightning_memaudit import OutcomeStore
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.training.engines.choice import EngineChoice
from lightning_memaudit.training.workers import dispatch
from lightning_memaudit.training.workers.dispatch import (
    can_share,
    check_reachable,
    deal,
    serialized_run,
    shared_rows,
    stored_before,
    stored_since,
)
from tests.helpers.drivers import Driver


def test_a_store_is_named_so_that_any_process_finds_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    driver = Driver(Path())
    assert serialized_run(driver.run, driver.decision, damaged=()).store == str(tmp_path / "store")
    remote = replace(driver.run, store=OutcomeStore("memory://bucket/audit"))
    assert serialized_run(remote, driver.decision, damaged=()).store == "memory://bucket/audit"


def test_which_stores_other_processes_can_share(tmp_path: Path, monkeypatch) -> None:
    assert can_share(OutcomeStore(tmp_path))
    assert not can_share(OutcomeStore("memory://auto"))
    check_reachable(OutcomeStore(tmp_path))
    with pytest.raises(ConfigurationError, match=r"store='memory://auto': other processes cannot reach it"):
        check_reachable(OutcomeStore("memory://auto"))
    monkeypatch.setattr(dispatch, "processes_can_start", lambda: False)
    assert not can_share(OutcomeStore(tmp_path))


def test_damaged_shards_do_not_count_as_stored(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    folder = tmp_path / "store/outcomes/baseline"
    folder.mkdir(parents=True)
    (folder / "000001.npz").write_bytes(b"damaged")
    damaged = stored_before(driver.run, [0, 1, 2])
    assert damaged == {1}
    (folder / "000002.npz").write_bytes(b"new")
    is_stored = stored_since(driver.run, damaged)
    assert [is_stored(k) for k in (0, 1, 2)] == [False, False, True]


def test_compiled_steps_are_dealt_out_whole() -> None:
    plain = deal(range(128), EngineChoice("ensemble", 32), 2)
    compiled = deal(range(128), EngineChoice("ensemble", 32, compiled=True), 2)
    for queue, last in ((plain, 16), (compiled, 32)):
        leases = []
        while queue.is_fresh:
            leases.append(len(queue.take()))
        assert sum(leases) == 128
        assert leases[-1] == last


def test_rows_that_are_no_tensors_are_read_by_each_worker(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    assert shared_rows(driver.decision) is driver.decision.data.train
    assert shared_rows(replace(driver.decision, data=None)) is None
