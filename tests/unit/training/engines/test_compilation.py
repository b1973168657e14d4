"""The compiler is real here, and so are its failures; the time that steps take is set where a decision hangs on it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch._inductor.config as inductor

from lightning_memaudit.training.engines import compilation
from lightning_memaudit.training.engines.choice import ChosenEngine, Decision, EngineOptions
from lightning_memaudit.training.engines.ensemble import gradients
from lightning_memaudit.training.engines.in_memory.support import Unsupported
from lightning_memaudit.training.engines.selection import decide
from lightning_memaudit.training.engines.train import train_here
from lightning_memaudit.training.engines.tuning import compiled_if_asked, compiled_where_it_pays
from lightning_memaudit.training.timing import Thresholds
from tests.helpers import zoo
from tests.helpers.engines import reopened, run_probed, stored

if TYPE_CHECKING:
    from lightning_memaudit.training.run import Run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of torch 2.13 about itself
N_MODELS = 4
FREE = Thresholds(compiling_seconds=0.0, compiling_again_seconds=0.0, compiled_gain=0.0)  # whatever this machine takes


def whole_batches() -> zoo.Data:
    return zoo.Data(batch_size=12)


class Scene:
    """A run that trains its models at once, on which nothing was compiled yet; by default compiling costs nothing."""

    def __init__(self, model: Any = zoo.Net, *, thresholds: Thresholds = FREE, tuning: Any = "full") -> None:
        self.run: Run = run_probed(model, data=whole_batches)
        options = EngineOptions(tuning, thresholds)
        self.plain = decide(self.run, range(N_MODELS), ChosenEngine(), options, allowed=("ensemble",))

    def decide(self, *, thresholds: Thresholds | None = None, n_workers: int = 1) -> Decision:
        plain = self.plain
        if thresholds is not None:
            plain = replace(plain, options=replace(plain.options, thresholds=thresholds))
        return compiled_where_it_pays(self.run, range(N_MODELS), plain, n_workers=n_workers)


@pytest.fixture
def clock(monkeypatch) -> dict[str, float]:
    """How many times as fast a compiled step is."""
    real, clock = compilation.train_chunk, {"gain": 2.5}

    def train_chunk(run: Any, model_ids: Any, data: Any, memo: Any, **options: Any) -> Any:
        chunk = real(run, model_ids, data, memo, **options)
        return replace(chunk, seconds_per_step=1.0 / (clock["gain"] if memo.compiled_size else 1.0))

    monkeypatch.setattr(compilation, "train_chunk", train_chunk)
    return clock


@pytest.mark.parametrize("model", [zoo.Net, zoo.Dropout])
def test_a_compiled_step_gives_the_same_models_here_and_in_other_processes(model) -> None:
    """Dropout draws the masks that it draws otherwise."""
    scene = Scene(model)
    decision = scene.decide()
    assert decision.choice.compiled
    assert decision.memo.compiled_size == N_MODELS
    assert " times as fast again" in decision.choice.reason
    assert f"ensemble-{N_MODELS}-compiled" in decision.choice.milliseconds_per_step
    assert scene.run.store.manifest.execution == decision.choice.to_dict()
    assert compiled_where_it_pays(scene.run, range(N_MODELS), decision) is decision

    elsewhere = Scene(model)
    adopted = compiled_if_asked(elsewhere.run, range(N_MODELS), elsewhere.plain, decision.choice)
    assert adopted.choice == decision.choice
    assert adopted.memo.compiled_size == N_MODELS

    trained = {}
    for name, scene_of, how in (
        ("plain", Scene(model), None),
        ("here", scene, decision),
        ("there", elsewhere, adopted),
    ):
        list(train_here(scene_of.run, range(N_MODELS), how or scene_of.plain))
        trained[name] = [stored(reopened(scene_of.run).store, k) for k in range(N_MODELS)]
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


def test_a_compiled_step_that_gains_too_little_is_not(clock) -> None:
    clock["gain"] = 1.05
    decision = Scene(thresholds=replace(FREE, compiled_gain=1.1)).decide()
    assert not decision.choice.compiled
    assert decision.memo.compiled_size is None
    assert decision.choice.reason.endswith("; compiled it gains too little")


def test_a_compiled_step_with_other_weights_is_not(monkeypatch) -> None:
    def compiled(traced: Any, _: Any) -> Any:
        return lambda *tensors: [1.01 * gradient for gradient in traced(*tensors)]

    monkeypatch.setattr(gradients, "_compiled", compiled)
    found = Scene().decide().choice
    assert not found.compiled
    assert "; not compiled: weights that differ by" in found.reason


def test_no_compiler_on_this_machine(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        found = Scene(zoo.LayerNorm).decide().choice
        assert (found.engine, found.compiled) == ("ensemble", False)
        assert "; not compiled: " in found.reason

        scene = Scene(zoo.LayerNorm)
        asked = replace(scene.plain.choice, compiled=True)
        decision = compiled_if_asked(scene.run, range(N_MODELS), scene.plain, asked)
    assert not decision.choice.compiled
    assert "; not compiled: " in decision.choice.reason
    assert decision.memo is scene.plain.memo


@pytest.mark.parametrize("where", ["plain", "compiled"])
def test_what_fails_in_the_trial_leaves_training_as_it_was_and_is_not_tried_again(where, monkeypatch) -> None:
    real, tried = compilation.train_chunk, []

    def train_chunk(run: Any, model_ids: Any, data: Any, memo: Any, **options: Any) -> Any:
        tried.append(memo.compiled_size)
        if where == "plain" or memo.compiled_size:
            raise Unsupported("something at step 15")
        return real(run, model_ids, data, memo, **options)

    monkeypatch.setattr(compilation, "train_chunk", train_chunk)
    scene = Scene()
    asked = replace(scene.plain.choice, compiled=True)
    decision = scene.decide()
    assert decision.choice.reason == f"{scene.plain.choice.reason}; not compiled: something at step 15"
    n_tries = len(tried)
    assert compiled_where_it_pays(scene.run, range(N_MODELS), decision) is decision
    assert compiled_if_asked(scene.run, range(N_MODELS), decision, asked) is decision
    assert len(tried) == n_tries


def test_nothing_is_compiled_that_does_not_repay_it_or_changes_from_step_to_step(monkeypatch) -> None:
    monkeypatch.setattr(gradients, "_compiled", None)
    scene = Scene(thresholds=Thresholds())
    assert scene.decide() is scene.plain
    counts = Scene(zoo.Counts)
    assert counts.decide() is counts.plain
    free = Scene(thresholds=replace(FREE, compiling_again_seconds=1e9))  # in another process
    assert free.decide(n_workers=2) is free.plain


def test_what_was_compiled_before_repays_it_sooner(clock, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(gradients, "_compiled", lambda traced, _: traced)
    dear = replace(FREE, compiling_seconds=1e9)
    assert Scene().decide().choice.compiled
    assert Scene(thresholds=dear).decide().choice.compiled
    assert not Scene(zoo.LayerNorm, thresholds=dear).decide().choice.compiled
    for note in tmp_path.glob("memaudit-*"):
        note.unlink()
    assert not Scene(thresholds=dear).decide().choice.compiled


def test_another_process_waits_for_a_whole_chunk(monkeypatch) -> None:
    monkeypatch.setattr(gradients, "_compiled", None)
    scene = Scene()
    asked = replace(scene.plain.choice, compiled=True)
    assert compiled_if_asked(scene.run, range(N_MODELS - 1), scene.plain, asked) is scene.plain
    assert compiled_if_asked(scene.run, range(N_MODELS), scene.plain, scene.plain.choice) is scene.plain


def test_there_is_a_compiler_here() -> None:
    """The tests above are worth what they say only where there is one."""
    assert subprocess.run(["g++", "--version"], capture_output=True, check=False).returncode == 0
