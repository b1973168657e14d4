"""The fastest way that is right is taken, kept in the manifest, and not asked about again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lightning_memaudit import SubsetPlan
from lightning_memaudit.data.randomness import random_state
from lightning_memaudit.exceptions import ArgumentError, TrainingError
from lightning_memaudit.training.engines import choice as choice_module
from lightning_memaudit.training.engines.choice import Choice, choose, decide
from lightning_memaudit.training.executors import find_executor
from tests.helpers import zoo
from tests.helpers.engines import PLAN, memory_of, opened_store, population

if TYPE_CHECKING:
    import torch

AUTO = ("in-memory", "ensemble")
RIGHT = "the same weights as the Trainer"


@pytest.fixture
def worth_a_trial(monkeypatch) -> None:
    monkeypatch.setattr(choice_module, "_NOT_WORTH_A_TRIAL", 0.0)
    monkeypatch.setattr(choice_module, "_BETTER_BY", 0.0)
    monkeypatch.setattr(choice_module, "_SHARE_OF_TRIAL", 1e9)


def chosen(people: Any, n_models: int = 10, allowed: Any = AUTO, plan: SubsetPlan = PLAN) -> Choice:
    opened_store(people, plan)
    return choose(people, plan, range(n_models), allowed=allowed, length=people.length).choice


def test_too_few_models_are_not_worth_a_trial() -> None:
    found = chosen(population(zoo.Counts))
    assert (found.engine, found.chunk_size) == ("in-memory", 1)
    assert found.reason == "too few models to gain by training several at once"
    assert list(found.milliseconds_per_step) == ["in-memory"]
    assert found.seconds_per_model == pytest.approx(20 * found.milliseconds_per_step["in-memory"] / 1e3)


@pytest.mark.parametrize(("n_models", "sizes"), [(1, [1]), (8, [8]), (12, [8, 12]), (40, [8, 32])])
def test_chunks_are_timed(n_models, sizes, worth_a_trial, monkeypatch) -> None:
    found = chosen(population(zoo.Counts), n_models)
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


def test_larger_chunks_are_not_tried_where_that_is_a_good_part_of_the_work(worth_a_trial, monkeypatch) -> None:
    steps = 20 * 40  # 8 of each of 32 models are a third of them
    for share, sizes in [(0.31, [8]), (0.33, [8, 32])]:
        monkeypatch.setattr(choice_module, "_SHARE_OF_TRIAL", share)
        times = chosen(population(zoo.Counts), steps // 20).milliseconds_per_step
        assert list(times) == ["in-memory", *[f"ensemble-{size}" for size in sizes]]


def test_chunks_that_do_not_fit_into_memory_are_not_tried(worth_a_trial, monkeypatch) -> None:
    monkeypatch.setattr(choice_module, "available_memory", lambda: 4.0)
    assert list(chosen(population(zoo.Counts), 40).milliseconds_per_step) == ["in-memory", "ensemble-8"]


@pytest.mark.parametrize(("largest", "engine"), [(8, "ensemble"), (2, "in-memory")])
def test_chunks_that_turn_out_too_large_are_let_alone(largest, engine, worth_a_trial, monkeypatch) -> None:
    real = choice_module.train_chunk

    def train_chunk(people: Any, plan: Any, model_ids: Any, *rest: Any, **options: Any) -> Any:
        if len(model_ids) > largest:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(people, plan, model_ids, *rest, **options)

    monkeypatch.setattr(choice_module, "train_chunk", train_chunk)
    found = chosen(population(zoo.Counts), 40)
    assert found.engine == engine
    assert ("8 models at once: RuntimeError" in found.reason) == (engine == "in-memory")


def test_chunks_that_are_slower_are_not_taken(worth_a_trial, monkeypatch) -> None:
    monkeypatch.setattr(choice_module, "_BETTER_BY", 1e9)
    found = chosen(population(zoo.Counts))
    assert found.engine == "in-memory"
    assert "models at once would take 0." in found.reason
    assert "ensemble-8" in found.milliseconds_per_step


def test_chunks_are_taken_where_nothing_else_is_allowed(monkeypatch) -> None:
    monkeypatch.setattr(choice_module, "_BETTER_BY", 1e9)
    assert chosen(population(zoo.Counts), 2, ("ensemble",)).engine == "ensemble"


@pytest.mark.parametrize("allowed", [AUTO, ("ensemble",)])
def test_modules_that_cannot_be_stacked_are_trained_one_by_one(allowed, worth_a_trial) -> None:
    found = chosen(population(zoo.Branches), allowed=allowed)
    assert found.engine == "in-memory"
    assert found.reason.startswith("training several models at once does not go with RuntimeError: vmap")


def test_a_difference_that_shows_in_a_larger_chunk(worth_a_trial) -> None:
    found = chosen(population(zoo.RandomConstant))
    assert found.engine == "in-memory"
    assert "the attribute constants[1]" in found.reason


@pytest.mark.parametrize("allowed", [AUTO, ("ensemble",), ("in-memory",)])
def test_what_is_not_right_in_memory_is_left_to_the_trainer(allowed) -> None:
    people = population(zoo.Net, accumulate_grad_batches=2)
    decision = choose(people, PLAN, range(4), allowed=allowed, length=people.length)
    assert decision.data is None
    assert decision.choice.engine == "trainer"
    assert decision.choice.reason == "the faster loops do not go with accumulate_grad_batches=2"


def test_the_trainer_can_be_asked_for() -> None:
    assert chosen(population(zoo.Counts), allowed=()) == Choice("trainer", reason="asked for")


def test_examples_that_do_not_fit_into_memory(monkeypatch) -> None:
    monkeypatch.setattr("lightning_memaudit.data.rows.available_memory", lambda: 1000.0)
    found = chosen(population(zoo.Counts))
    assert found.engine == "trainer"
    assert "the data set would take about 0.0 GB in memory" in found.reason


def test_subsets_of_different_sizes(worth_a_trial) -> None:
    plan = SubsetPlan(zoo.N, design="bernoulli", subset_fraction=0.5, seed=0)
    found = chosen(population(zoo.Counts), 30, plan=plan)
    assert found.engine == "in-memory"
    assert "subsets of different sizes" in found.reason


def test_the_first_model_may_have_any_number() -> None:
    people = population(zoo.Counts)
    opened_store(people)
    assert choose(people, PLAN, [17, 3], length=people.length).choice.engine == "in-memory"


def test_an_error_of_the_users_code_is_no_reason_to_choose_another_way() -> None:
    class Fails(zoo.Net):
        def loss(self, batch: Any) -> torch.Tensor:
            if self.global_step == 2:
                raise KeyError("age")
            return super().loss(batch)

    with pytest.raises(TrainingError, match="model 0 failed in your code: KeyError: 'age'"):
        chosen(population(Fails))


def test_random_numbers_are_left_alone() -> None:
    people = population(zoo.Dropout)
    store = opened_store(people)
    before = random_state()
    decide(people, PLAN, range(4), store, allowed=("ensemble",))
    assert random_state() == before


# The manifest


def test_the_choice_is_on_record_and_kept_for_a_population() -> None:
    people = population(zoo.Counts)
    store = opened_store(people)
    decision = decide(people, PLAN, range(4), store, allowed=AUTO)
    assert store.manifest.execution == decision.choice.to_dict()
    assert Choice(**store.manifest.execution) == decision.choice
    assert decide(people, PLAN, range(400), store, allowed=("ensemble",)) is decision


@pytest.mark.parametrize("engine", ["in-memory", "ensemble"])
def test_later_runs_stick_to_the_way_of_the_first(engine, worth_a_trial, monkeypatch) -> None:
    if engine == "in-memory":
        monkeypatch.setattr(choice_module, "_NOT_WORTH_A_TRIAL", 1e9)
    people = population(zoo.Counts)
    store = opened_store(people)
    assert decide(people, PLAN, range(10), store, allowed=AUTO).choice.engine == engine
    monkeypatch.setattr(choice_module, "_NOT_WORTH_A_TRIAL", 0.0 if engine == "in-memory" else 1e9)
    again = decide(population(zoo.Counts), PLAN, range(10, 12), memory_of(store), allowed=AUTO).choice
    assert again.engine == engine


def test_a_trial_that_found_only_the_trainer_is_not_repeated(monkeypatch) -> None:
    people = population(zoo.Stops)
    store = opened_store(people)
    first = decide(people, PLAN, range(10), store, allowed=AUTO).choice
    assert first.engine == "trainer"
    monkeypatch.setattr(choice_module, "choose", None)
    again = decide(population(zoo.Stops), PLAN, range(10), memory_of(store), allowed=AUTO)
    assert (again.choice, again.data) == (first, None)
    assert store.manifest.execution["reason"].startswith("the faster loops do not go with trainer.should_stop")


def test_auto_does_not_stick_to_a_trainer_that_was_asked_for() -> None:
    people = population(zoo.Counts)
    store = opened_store(people)
    decide(people, PLAN, range(4), store, allowed=())
    assert store.manifest.execution["reason"] == "asked for"
    assert decide(population(zoo.Counts), PLAN, range(4), memory_of(store), allowed=AUTO).choice.engine == "in-memory"


ENGINES = {"trainer": "trainer", "sequential": "in-memory", "ensemble": "ensemble"}


@pytest.mark.parametrize(
    ("earlier", "name"),
    [("sequential", "trainer"), ("trainer", "sequential"), ("ensemble", "sequential"), ("sequential", "ensemble")],
)
def test_an_executor_that_is_asked_for_overrules_the_manifest(earlier, name) -> None:
    people = population(zoo.Counts, max_epochs=1)
    store = opened_store(people)
    list(find_executor(earlier)(people, PLAN, [0], store, notes=()))
    assert store.manifest.execution["engine"] == ENGINES[earlier]
    store = memory_of(store)
    list(find_executor(name)(population(zoo.Counts, max_epochs=1), PLAN, [1], store, notes=()))
    assert store.manifest.execution["engine"] == ENGINES[name]
    assert store.model_ids() == [0, 1]


@pytest.mark.parametrize("name", ["auto", "trainer", "sequential", "ensemble"])
def test_nothing_to_train_is_nothing_to_choose(name) -> None:
    people = population(zoo.Counts)
    store = opened_store(people)
    assert list(find_executor(name)(people, PLAN, [], store, notes=())) == []
    assert store.manifest.execution == {}
    assert people.decision is None


@pytest.mark.parametrize("executor", ["fast", None, 3, Choice])
def test_unknown_executors_are_refused(executor) -> None:
    with pytest.raises(ArgumentError, match=r"executor=.*: one of auto, trainer, sequential, ensemble, process, ray"):
        find_executor(executor)
