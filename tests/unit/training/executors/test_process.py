import threading
from pathlib import Path

import pytest

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.training.executors import Process, process
from tests.helpers.tiny import TRAINER, TinyData, TinyNet


def locked() -> type:
    """A class that travels by value, and cannot."""

    class Locked(TinyData):
        lock_of_the_user = threading.Lock()

    return Locked


def audit(store, **options) -> Audit:
    settings = {"model": TinyNet, "data": TinyData, "trainer": TRAINER, "n_models": 4, "store": store}
    return Audit(**(settings | options))


def test_where_there_is_no_posix_it_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(process, "processes_can_start", lambda: False)
    with pytest.raises(ConfigurationError, match=r"executor='process': a POSIX system .* is needed; .*'ensemble'"):
        audit(tmp_path, executor="process").train(progress=False)


def test_one_worker_is_this_process_and_sends_nothing(tmp_path: Path) -> None:
    store = audit(tmp_path, data=locked(), executor=Process(n_workers=1)).train(progress=False)
    assert len(store.model_ids()) == 4
    assert store.manifest.execution["processes"] == 1


def test_what_cannot_be_sent_is_an_error(tmp_path: Path) -> None:
    message = r"executor: data cannot be sent to other processes \(TypeError: cannot pickle '_thread.lock' object\)"
    with pytest.raises(ConfigurationError, match=message):
        audit(tmp_path, data=locked(), executor=Process(n_workers=2)).train(progress=False)
    assert not OutcomeStore(tmp_path).treatments()
