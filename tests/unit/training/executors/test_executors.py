"""Executors by name and with options; what each of them does is in tests/integration/test_executors.py."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from lightning_memaudit import Audit
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.training.engines.choice import EngineChoice
from lightning_memaudit.training.executors import EXECUTORS, Process, Ray, Sequential, find_executor
from tests.helpers.tiny import TRAINER, TinyData, TinyNet

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["auto", "trainer", "sequential", "ensemble", "process", "ray"]
UNKNOWN = r"executor=.*: one of auto, trainer, sequential, ensemble, process, ray is needed"
TUNABLE = [kind for kind in EXECUTORS.values() if "tuning" in {field.name for field in fields(kind)}]


def audit(store, **options) -> Audit:
    settings = {"model": TinyNet, "data": TinyData, "trainer": TRAINER, "n_models": 4, "store": store}
    return Audit(**(settings | options))


def test_executors_by_name_and_with_options() -> None:
    assert [*EXECUTORS] == NAMES
    for name in NAMES:
        assert find_executor(name) == EXECUTORS[name]()
        assert find_executor(name).name == name
    executor = Process(n_workers=3, engine="trainer")
    assert find_executor(executor) is executor


@pytest.mark.parametrize("executor", ["warp", "Process", "", None, 3, Process, EngineChoice])
def test_an_unknown_executor_is_named(executor, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=UNKNOWN):
        audit(tmp_path, executor=executor)
    with pytest.raises(ArgumentError, match=UNKNOWN):
        find_executor(executor)


def test_an_executor_of_the_users_own(tmp_path: Path) -> None:
    class Backwards:
        name: ClassVar[str] = "backwards"

        def train(self, run: Any, model_ids: Any, engine: Any) -> Any:
            return Sequential().train(run, model_ids[::-1], engine)

    store = audit(tmp_path, executor=Backwards()).train(progress=False)
    assert store.model_ids() == [0, 1, 2, 3]
    assert store.manifest.executor == "backwards"


@pytest.mark.parametrize("n_workers", [0, -1, 1.5, "2", True, float("nan")])
@pytest.mark.parametrize("kind", [Process, Ray])
def test_a_bad_number_of_workers_is_named(kind, n_workers) -> None:
    with pytest.raises(ArgumentError, match=r"n_workers.*a whole number of at least 1"):
        kind(n_workers=n_workers)


@pytest.mark.parametrize("kind", [Process, Ray])
def test_an_unknown_engine_is_named(kind) -> None:
    with pytest.raises(ArgumentError, match=r"engine='warp': one of trainer, in-memory, ensemble"):
        kind(engine="warp")


@pytest.mark.parametrize("kind", TUNABLE, ids=lambda kind: kind.name)
def test_an_unknown_tuning_is_named(kind) -> None:
    with pytest.raises(ArgumentError, match=r"tuning='some': one of full, off is needed"):
        kind(tuning="some")


def test_whatever_may_compile_can_be_told_not_to() -> None:
    assert [kind.name for kind in TUNABLE] == ["auto", "ensemble", "process", "ray"]
