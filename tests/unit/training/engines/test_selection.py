"""The fastest way that is right is taken, kept in the manifest, and not asked about again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lightning_memaudit import SubsetPlan
from lightning_memaudit.data.randomness import random_state
from lightning_memaudit.exceptions import TrainingError
from lightning_memaudit.training.engines import selection
from lightning_memaudit.training.engines.choice import ChosenEngine, Decision, EngineChoice, EngineOptions
from lightning_memaudit.training.engines.selection import choose, decide
from lightning_memaudit.training.timing import Thresholds
from tests.helpers import zoo
from tests.helpers.engines import reopened, run_of, run_probed

if TYPE_CHECKING:
    import torch

    from lightning_memaudit.training.run import Run

AUTO = ("in-memory", "ensemble")
RIGHT = "the same weights as the Trainer"


USUAL = Thresholds()
TRIED = Thresholds(try_ensemble=0.0, ensemble_gain=0.0, trial_share=1e9)  # several models at once, whatever they gain


def chosen(run: Run, n_models: int = 10, allowed: Any = AUTO, thresholds: Thresholds = TRIED) -> EngineChoice:
    return choose(run, range(n_models), EngineOptions(thresholds=thresholds), allowed=allowed).choice


def decided(
    run: Run, model_ids: Any, allowed: Any = AUTO, *, engine: ChosenEngine | None = None, thresholds: Thresholds = USUAL
) -> Decision:
    return decide(run, model_ids, engine or ChosenEngine(), EngineOptions(thresholds=thresholds), allowed=allowed)


def test_too_few_models_are_not_worth_a_trial() -> None:
    found = chosen(run_probed(zoo.Counts), thresholds=USUAL)
    assert (found.engine, found.chunk_size) == ("in-memory", 1)
    assert found.reason == "too few models to gain by training several at once"
    assert list(found.milliseconds_per_step) == ["in-memory"]
    assert found.seconds_per_model == pytest.approx(20 * found.milliseconds_per_step["in-memory"] / 1e3)


@pytest.mark.parametrize(("n_models", "sizes"), [(1, [1]), (8, [8]), (12, [8, 12]), (40, [8, 32])])
def test_chunks_are_timed(n_models, sizes) -> None:
    found = chosen(run_probed(zoo.Counts), n_models)
    assert found.engine == "ensemble"
    times = found.milliseconds_per_step
    if n_models == 40 and 1.1 * times["ensemble-32"] <= times["ensemble-8"]:
        sizes = [*sizes, 40]  # larger ones are tried as long as they gain
    assert list(times) == ["in-memory", *[f"ensemble-{size}" for size in sizes]]
    fastest = min(times[f"ensemble-{size}"] for size in sizes)
    best = min(size for size in sizes if times[f"ensemble-{size}"] <= 1.1 * fastest)
    assert found.chunk_size == best
    assert (
        found.reason
        == f"{times['in-memory'] / times[f'ensemble-{best}']:.1f} times as fast as one model after the other"
    )
    assert found.seconds_per_model == pytest.approx(20 * times[f"ensemble-{best}"] / 1e3)


def test_larger_chunks_are_not_tried_where_that_is_a_good_part_of_the_work() -> None:
    steps = 20 * 40  # 8 of each of 32 models are a third of them
    for share, sizes in [(0.31, [8]), (0.33, [8, 32])]:
        times = chosen(
            run_probed(zoo.Counts), steps // 20, thresholds=replace(TRIED, trial_share=share)
        ).milliseconds_per_step
        assert list(times) == ["in-memory", *[f"ensemble-{size}" for size in sizes]]


def test_chunks_that_do_not_fit_into_memory_are_not_tried(monkeypatch) -> None:
    monkeypatch.setattr(selection, "available_memory", lambda: 4.0)
    assert list(chosen(run_probed(zoo.Counts), 40).milliseconds_per_step) == ["in-memory", "ensemble-8"]


@pytest.mark.parametrize(("largest", "engine"), [(8, "ensemble"), (2, "in-memory")])
def test_chunks_that_turn_out_too_large_are_let_alone(largest, engine, monkeypatch) -> None:
    real = selection.train_chunk

    def train_chunk(run: Any, model_ids: Any, *rest: Any, **options: Any) -> Any:
        if len(model_ids) > largest:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(run, model_ids, *rest, **options)

    monkeypatch.setattr(selection, "train_chunk", train_chunk)
    found = chosen(run_probed(zoo.Counts), 40)
    assert found.engine == engine
    assert ("8 models at once: RuntimeError" in found.reason) == (engine == "in-memory")


def test_chunks_that_are_slower_are_not_taken() -> None:
    found = chosen(run_probed(zoo.Counts), thresholds=replace(TRIED, ensemble_gain=1e9))
    assert found.engine == "in-memory"
    assert "models at once would take 0." in found.reason
    assert "ensemble-8" in found.milliseconds_per_step


def test_chunks_are_taken_where_nothing_else_is_allowed() -> None:
    thresholds = replace(USUAL, ensemble_gain=1e9)
    assert chosen(run_probed(zoo.Counts), 2, ("ensemble",), thresholds).engine == "ensemble"


@pytest.mark.parametrize("allowed", [AUTO, ("ensemble",)])
def test_modules_that_cannot_be_stacked_are_trained_one_by_one(allowed) -> None:
    found = chosen(run_probed(zoo.Branches), allowed=allowed)
    assert found.engine == "in-memory"
    assert found.reason.startswith("training several models at once does not go with RuntimeError: vmap")


def test_a_difference_that_shows_in_a_larger_chunk() -> None:
    found = chosen(run_probed(zoo.RandomConstant))
    assert found.engine == "in-memory"
    assert "the attribute constants[1]" in found.reason


@pytest.mark.parametrize("allowed", [AUTO, ("ensemble",), ("in-memory",)])
def test_what_is_not_right_in_memory_is_left_to_the_trainer(allowed) -> None:
    run = run_of(zoo.Net, accumulate_grad_batches=2)
    decision = choose(run, range(4), EngineOptions(), allowed=allowed)
    assert decision.data is None
    assert decision.choice.engine == "trainer"
    assert decision.choice.reason == "the faster loops do not go with accumulate_grad_batches=2"


def test_the_trainer_can_be_asked_for() -> None:
    assert chosen(run_probed(zoo.Counts), allowed=()) == EngineChoice("trainer", reason="asked for")


def test_examples_that_do_not_fit_into_memory(monkeypatch) -> None:
    monkeypatch.setattr("lightning_memaudit.data.rows.available_memory", lambda: 1000.0)
    found = chosen(run_probed(zoo.Counts))
    assert found.engine == "trainer"
    assert "the data set would take about 0.0 GB in memory" in found.reason


def test_subsets_of_different_sizes() -> None:
    plan = SubsetPlan(zoo.N, design="bernoulli", subset_fraction=0.5, seed=0)
    found = chosen(run_probed(zoo.Counts, plan=plan), 30)
    assert found.engine == "in-memory"
    assert "subsets of different sizes" in found.reason


def test_the_first_model_may_have_any_number() -> None:
    assert choose(run_probed(zoo.Counts), [17, 3], EngineOptions()).choice.engine == "in-memory"


def test_an_error_of_the_users_code_is_no_reason_to_choose_another_way() -> None:
    class Fails(zoo.Net):
        def loss(self, batch: Any) -> torch.Tensor:
            if self.global_step == 2:
                raise KeyError("age")
            return super().loss(batch)

    with pytest.raises(TrainingError, match="model 0 failed in your code: KeyError: 'age'"):
        chosen(run_probed(Fails))


def test_random_numbers_are_left_alone() -> None:
    run = run_probed(zoo.Dropout)
    before = random_state()
    decided(run, range(4), ("ensemble",))
    assert random_state() == before


def test_what_all_models_would_take_is_foreseen_before_several_at_once_are_tried() -> None:
    foreseen: list[float] = []
    choose(run_probed(zoo.Counts), range(10), EngineOptions(thresholds=TRIED), foresee=foreseen.append)
    found = choose(run_probed(zoo.Counts), range(10), EngineOptions(), foresee=foreseen.append).choice
    assert found.reason.startswith("too few models")
    assert len(foreseen) == 1
    assert 0 < foreseen[0] < USUAL.try_ensemble


# The manifest


def test_the_choice_is_on_record_and_kept_for_the_next_call() -> None:
    run, engine = run_probed(zoo.Counts), ChosenEngine()
    decision = decided(run, range(4), engine=engine)
    assert run.store.manifest.execution == decision.choice.to_dict()
    assert EngineChoice(**run.store.manifest.execution) == decision.choice
    assert decided(run, range(400), ("ensemble",), engine=engine) is decision is engine.decision


def test_other_arms_leave_the_record_of_the_baseline_alone() -> None:
    run = run_probed(zoo.Counts)
    decided(run.of_arm(arm="rate-0"), range(4))
    assert run.store.manifest.execution == {}


def test_what_is_made_from_trained_models_is_left_to_the_trainer() -> None:
    run = run_probed(zoo.Counts).of_arm(made_from="baseline")
    decision = decided(run, range(4))
    assert decision.choice == EngineChoice("trainer", reason="made from trained models")
    assert run.store.manifest.execution == {}


@pytest.mark.parametrize("engine", ["in-memory", "ensemble"])
def test_later_runs_stick_to_the_way_of_the_first(engine) -> None:
    never = replace(TRIED, try_ensemble=1e9)
    first, later = (never, TRIED) if engine == "in-memory" else (TRIED, never)
    run = run_probed(zoo.Counts)
    assert decided(run, range(10), thresholds=first).choice.engine == engine
    again = decided(reopened(run), range(10, 12), thresholds=later).choice
    assert again.engine == engine


def test_a_trial_that_found_only_the_trainer_is_not_repeated(monkeypatch) -> None:
    run = run_probed(zoo.Stops)
    first = decided(run, range(10)).choice
    assert first.engine == "trainer"
    monkeypatch.setattr(selection, "choose", None)
    again = decided(reopened(run), range(10))
    assert (again.choice, again.data) == (first, None)
    assert run.store.manifest.execution["reason"].startswith("the faster loops do not go with trainer.should_stop")


def test_auto_does_not_stick_to_a_trainer_that_was_asked_for() -> None:
    run = run_probed(zoo.Counts)
    decided(run, range(4), ())
    assert run.store.manifest.execution["reason"] == "asked for"
    assert decided(reopened(run), range(4)).choice.engine == "in-memory"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [("in-memory", "trainer"), ("trainer", "in-memory"), ("ensemble", "in-memory"), ("in-memory", "ensemble")],
)
def test_an_engine_that_is_asked_for_overrules_the_manifest(earlier, later) -> None:
    run = run_probed(zoo.Counts, max_epochs=1)
    for name, each in ((earlier, run), (later, reopened(run))):
        assert decided(each, range(4), (name,)).choice.engine == name
        assert each.store.manifest.execution["engine"] == name
