"""Sessions are opened in this process here; other processes are in tests/integration/test_processes.py."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit.data.rows import TensorRows
from lightning_memaudit.exceptions import ConfigurationError, MismatchError
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.engines.train import train_here
from lightning_memaudit.training.workers import session as session_module
from lightning_memaudit.training.workers.session import Session, train_lease
from tests.helpers.drivers import Driver
from tests.helpers.tiny import TinyData

N_MODELS = 4


@pytest.mark.parametrize(("engine", "chunk_size"), [("trainer", 1), ("in-memory", 1), ("ensemble", 2)])
def test_a_session_trains_the_models_that_its_sender_would(engine: str, chunk_size: int, tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here = Driver(tmp_path / "here", engine=engine, chunk_size=chunk_size)
    ids = range(N_MODELS)
    assert [*train_here(here.run, ids, here.decision)] == [*ids]
    there = Driver(tmp_path / "there", engine=engine, chunk_size=chunk_size)
    session = Session.open(there.files)
    assert (session.decision.data is None) == (engine == "trainer")
    assert [*session.train(ids)] == [*ids]
    for split in ("train", "val"):
        ours, theirs = here.store.load(split=split), there.store.load(split=split)
        for name in ("mask", "correct", "margin", "loss", "prediction"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("tuning", ["full", "off"])
def test_a_session_is_tuned_as_its_sender_asked(tuning: str, tmp_path: Path) -> None:
    assert Session.open(Driver(tmp_path, tuning=tuning).files).decision.options.tuning == tuning


def test_rows_that_came_along_are_not_read_again(tmp_path: Path, monkeypatch) -> None:
    driver = Driver(tmp_path)
    given = []

    def spy(population, *, train):
        given.append(train)
        return read_into_memory(population, train=train)

    monkeypatch.setattr(session_module, "read_into_memory", spy)
    session = Session.open(driver.files)
    assert isinstance(given[0], TensorRows)
    assert session.decision.data is not None
    assert session.decision.data.train is given[0]


def test_data_that_are_others_in_this_process_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    times = itertools.count()

    class Other(TinyData):
        def setup(self, stage=None):
            self.seed = next(times)  # what was sent holds the count as it was when it was packed
            super().setup(stage)

    driver = Driver(tmp_path, data=Other)
    with pytest.raises(MismatchError, match="belongs to another data"):
        Session.open(driver.files)
    assert not driver.store.treatments()


def test_a_store_that_cannot_be_reached_is_not_made_anew(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"store='.*/store': a worker on \S+ does not find it"):
        Session.open(driver.files)
    assert not (tmp_path / "store").exists()


def test_a_relative_store_is_found_from_any_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    driver = Driver(Path())
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert [*Session.open(tmp_path / driver.files).train([0])] == [0]
    assert (tmp_path / "store/outcomes/baseline/000000.npz").exists()


def test_shards_that_came_meanwhile_are_passed_over_and_damaged_ones_are_not(tmp_path: Path) -> None:
    driver = Driver(tmp_path, damaged=[1])
    assert [*train_here(driver.run, range(3), driver.decision)] == [0, 1, 2]
    damaged = tmp_path / "store/outcomes/baseline/000001.npz"
    damaged.write_bytes(b"damaged")
    before = driver.shards()
    assert sorted(Session.open(driver.files).train([0, 1, 2, 3])) == [0, 1, 2, 3]
    after = driver.shards()
    assert [name for name in before if before[name] != after[name]] == ["000001.npz"]
    assert driver.store.verify() == []


def test_a_lease_is_trained_once_by_two_that_hold_it(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    lease = [0, 1, 2]
    first = train_lease(driver.run, lease, driver.decision, damaged=())
    assert next(first) == 0
    before = driver.shards()
    second = train_lease(driver.run, lease, driver.decision, damaged=())
    assert sorted(second) == lease
    between = driver.shards()
    assert [*first] == [1, 2]
    assert driver.shards() == between
    assert before.items() <= between.items()
