"""The compiler is real here, and so are its failures; the time that steps take is set where a decision hangs on it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch._inductor.config as inductor

from lightning_memaudit.training.engines import compilation
from lightning_memaudit.training.engines.choice import Decision, decide
from lightning_memaudit.training.engines.compilation import compiled_if_asked, compiled_where_it_pays
from lightning_memaudit.training.engines.ensemble import gradients
from lightning_memaudit.training.engines.support import NotHonoured
from lightning_memaudit.training.engines.train import train_here
from tests.helpers import zoo
from tests.helpers.engines import PLAN, memory_of, opened_store, population, stored

if TYPE_CHECKING:
    from lightning_memaudit import OutcomeStore
    from lightning_memaudit.training.task import Population

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of torch 2.13 about itself
N_MODELS = 4


def whole_batches() -> zoo.Data:
    return zoo.Data(batch_size=12)


class Scene:
    """A population that trains its models at once, on which nothing was compiled yet."""

    def __init__(self, model: Any = zoo.Net, **arguments: Any) -> None:
        self.people: Population = population(model, data=whole_batches, **arguments)
        self.store: OutcomeStore = opened_store(self.people)
        self.plain = decide(self.people, PLAN, range(N_MODELS), self.store, allowed=("ensemble",))

    def decide(self, **options: Any) -> Decision:
        return compiled_where_it_pays(self.people, PLAN, range(N_MODELS), self.store, self.plain, **options)


@pytest.fixture
def free(monkeypatch) -> None:
    """Compiling costs nothing, so that whether it is tried does not hang on this machine."""
    for cost in ("_COSTS", "_COSTS_AGAIN", "_BETTER_BY"):
        monkeypatch.setattr(compilation, cost, 0.0)


@pytest.fixture
def clock(free, monkeypatch) -> dict[str, float]:
    """How many times as fast a compiled step is."""
    real, clock = compilation.train_chunk, {"gain": 2.5}

    def train_chunk(people: Any, plan: Any, model_ids: Any, data: Any, known: Any, **options: Any) -> Any:
        chunk = real(people, plan, model_ids, data, known, **options)
        return replace(chunk, seconds_per_step=1.0 / (clock["gain"] if known.compiled_size else 1.0))

    monkeypatch.setattr(compilation, "train_chunk", train_chunk)
    return clock


@pytest.mark.parametrize("model", [zoo.Net, zoo.Dropout])
def test_a_compiled_step_gives_the_same_models_here_and_in_other_processes(model, free) -> None:
    """Dropout draws the masks that it draws otherwise."""
    scene = Scene(model)
    decision = scene.decide()
    assert decision.choice.compiled
    assert decision.known.compiled_size == N_MODELS
    assert " times as fast again" in decision.choice.reason
    assert f"ensemble-{N_MODELS}-compiled" in decision.choice.milliseconds_per_step
    assert scene.people.decision is decision
    assert scene.store.manifest.execution == decision.choice.to_dict()
    assert compiled_where_it_pays(scene.people, PLAN, range(N_MODELS), scene.store, decision) is decision

    elsewhere = Scene(model)
    adopted = compiled_if_asked(elsewhere.people, PLAN, range(N_MODELS), elsewhere.plain, decision.choice)
    assert adopted.choice == decision.choice
    assert adopted.known.compiled_size == N_MODELS

    trained = {}
    for name, scene_of, how in (
        ("plain", Scene(model), None),
        ("here", scene, decision),
        ("there", elsewhere, adopted),
    ):
        list(train_here(scene_of.people, PLAN, range(N_MODELS), scene_of.store, how or scene_of.plain))
        trained[name] = [stored(memory_of(scene_of.store), k) for k in range(N_MODELS)]
    for name in ("here", "there"):
        for found, expected in zip(trained[name], trained["plain"], strict=True):
            for split, fields in found.items():
                assert fields["correct"].tolist() == expected[split]["correct"].tolist()
                torch.testing.assert_close(
                    torch.from_numpy(fields["margin"]),
                    torch.from_numpy(expected[split]["margin"]),
                    rtol=1e-3,
                    atol=1e-4,
                )


def test_a_step_that_is_faster_compiled_is_taken_and_its_gain_is_on_record(clock) -> None:
    scene = Scene()
    before = scene.plain.choice
    found = scene.decide().choice
    assert found.reason == f"{before.reason}, and compiled 2.5 times as fast again"
    assert found.seconds_per_model == pytest.approx(before.seconds_per_model / 2.5)
    assert found.milliseconds_per_step[f"ensemble-{N_MODELS}-compiled"] == pytest.approx(1e3 / 2.5 / N_MODELS)


def test_a_compiled_step_that_gains_too_little_is_not(clock, monkeypatch) -> None:
    monkeypatch.setattr(compilation, "_BETTER_BY", 1.1)
    clock["gain"] = 1.05
    decision = Scene().decide()
    assert not decision.choice.compiled
    assert decision.known.compiled_size is None
    assert decision.choice.reason.endswith("; compiled it gains too little")


def test_a_compiled_step_with_other_weights_is_not(free, monkeypatch) -> None:
    def compiled(traced: Any, _: Any) -> Any:
        return lambda *tensors: [1.01 * gradient for gradient in traced(*tensors)]

    monkeypatch.setattr(gradients, "_compiled", compiled)
    found = Scene().decide().choice
    assert not found.compiled
    assert "; not compiled: weights that differ by" in found.reason


def test_no_compiler_on_this_machine(free, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        found = Scene(zoo.LayerNorm).decide().choice
        assert (found.engine, found.compiled) == ("ensemble", False)
        assert "; not compiled: " in found.reason

        scene = Scene(zoo.LayerNorm)
        asked = replace(scene.plain.choice, compiled=True)
        decision = compiled_if_asked(scene.people, PLAN, range(N_MODELS), scene.plain, asked)
    assert not decision.choice.compiled
    assert "; not compiled: " in decision.choice.reason
    assert decision.known is scene.plain.known


@pytest.mark.parametrize("where", ["plain", "compiled"])
def test_what_fails_in_the_trial_leaves_training_as_it_was_and_is_not_tried_again(where, free, monkeypatch) -> None:
    real, tried = compilation.train_chunk, []

    def train_chunk(people: Any, plan: Any, model_ids: Any, data: Any, known: Any, **options: Any) -> Any:
        tried.append(known.compiled_size)
        if where == "plain" or known.compiled_size:
            raise NotHonoured("something at step 15")
        return real(people, plan, model_ids, data, known, **options)

    monkeypatch.setattr(compilation, "train_chunk", train_chunk)
    scene = Scene()
    asked = replace(scene.plain.choice, compiled=True)
    decision = scene.decide()
    assert decision.choice.reason == f"{scene.plain.choice.reason}; not compiled: something at step 15"
    n_tries = len(tried)
    assert compiled_where_it_pays(scene.people, PLAN, range(N_MODELS), scene.store, decision) is decision
    assert compiled_if_asked(scene.people, PLAN, range(N_MODELS), decision, asked) is decision
    assert len(tried) == n_tries


def test_nothing_is_compiled_that_does_not_repay_it_or_changes_from_step_to_step(monkeypatch) -> None:
    monkeypatch.setattr(gradients, "_compiled", None)
    scene = Scene()
    assert scene.decide() is scene.plain
    for cost in ("_COSTS", "_COSTS_AGAIN"):
        monkeypatch.setattr(compilation, cost, 0.0)
    counts = Scene(zoo.Counts)
    assert counts.decide() is counts.plain
    monkeypatch.setattr(compilation, "_COSTS_AGAIN", 1e9)  # in another process
    assert scene.decide(n_processes=2) is scene.plain


def test_what_was_compiled_before_repays_it_sooner(clock, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(gradients, "_compiled", lambda traced, _: traced)
    assert Scene().decide().choice.compiled
    monkeypatch.setattr(compilation, "_COSTS", 1e9)
    assert Scene().decide().choice.compiled
    assert not Scene(zoo.LayerNorm).decide().choice.compiled
    for note in tmp_path.glob("memaudit-*"):
        note.unlink()
    assert not Scene().decide().choice.compiled


def test_another_process_waits_for_a_whole_chunk(monkeypatch) -> None:
    monkeypatch.setattr(gradients, "_compiled", None)
    scene = Scene()
    asked = replace(scene.plain.choice, compiled=True)
    assert compiled_if_asked(scene.people, PLAN, range(N_MODELS - 1), scene.plain, asked) is scene.plain
    assert compiled_if_asked(scene.people, PLAN, range(N_MODELS), scene.plain, scene.plain.choice) is scene.plain


def test_there_is_a_compiler_here() -> None:
    """The tests above are worth what they say only where there is one."""
    assert subprocess.run(["g++", "--version"], capture_output=True, check=False).returncode == 0
