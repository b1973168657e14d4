"""The door to what only makes training faster, open and shut."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightning_memaudit.training.engines import compilation, malloc
from lightning_memaudit.training.engines.choice import ChosenEngine, EngineOptions
from lightning_memaudit.training.engines.selection import decide
from lightning_memaudit.training.engines.train import train_here
from lightning_memaudit.training.engines.tuning import compiled_if_asked, compiled_where_it_pays, memory_kept_for_steps
from lightning_memaudit.training.timing import Thresholds
from tests.helpers import zoo
from tests.helpers.engines import assert_same_scores, elsewhere, run_probed, stored

FREE = Thresholds(compiling_seconds=0.0, compiling_again_seconds=0.0, compiled_gain=0.0)
IDS = range(4)


def test_without_tuning_neither_memory_nor_the_step_is_touched_and_models_are_the_same(monkeypatch) -> None:
    run = run_probed(zoo.Net)
    full = decide(run, IDS, ChosenEngine(), EngineOptions(), allowed=("ensemble",))
    assert list(train_here(run, IDS, full)) == list(IDS)

    monkeypatch.setattr(malloc, "freed_memory_kept", None)
    monkeypatch.setattr(compilation, "with_compiled_step", None)
    other = elsewhere(run)
    off = decide(other, IDS, ChosenEngine(), EngineOptions("off", FREE), allowed=("ensemble",))
    assert off.choice.engine == "ensemble"
    assert compiled_where_it_pays(other, IDS, off) is off
    assert list(train_here(other, IDS, off)) == list(IDS)
    for k in IDS:
        assert_same_scores(stored(other.store, k), stored(run.store, k))


def test_with_tuning_it_is() -> None:
    """So that the test above would see it."""
    run = run_probed(zoo.Net)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(malloc, "freed_memory_kept", None)
        with pytest.raises(TypeError):
            memory_kept_for_steps("full")
        with memory_kept_for_steps("off"):
            pass
    decision = decide(run, IDS, ChosenEngine(), EngineOptions("full", FREE), allowed=("ensemble",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compilation, "with_compiled_step", None)
        with pytest.raises(TypeError):
            compiled_where_it_pays(run, IDS, decision)
        with pytest.raises(TypeError):
            compiled_if_asked(run, IDS, decision, replace(decision.choice, compiled=True))
