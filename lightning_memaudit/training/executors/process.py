"""Several processes on this machine; this one trains along."""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from lightning_memaudit.data.rows import TensorRows
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.training.engines.choice import Engine, decide, record
from lightning_memaudit.training.engines.compilation import compiled_where_it_pays
from lightning_memaudit.training.workers.pool import Crew
from lightning_memaudit.training.workers.queue import Work, last_size
from lightning_memaudit.training.workers.resources import default_workers, share_of_threads, using_threads
from lightning_memaudit.training.workers.serialization import Parcel, import_path, pack
from lightning_memaudit.training.workers.session import train_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.engines.choice import Choice, Decision
    from lightning_memaudit.training.task import Population

__all__ = [
    "Process",
    "allowed_engines",
    "at_least",
    "can_share",
    "check_reachable",
    "deal",
    "make_parcel",
    "rows_of",
    "stored_since",
    "train_in_processes",
]

_POSIX = os.name == "posix"


@dataclass(frozen=True, slots=True)
class Process:
    """Worker processes, each with its share of the threads; this process trains along.

    Args:
        n_workers: Processes in all, this one included; None takes one a core as far as memory allows (one a GPU where
            models train on GPUs).
        engine: How each of them trains: ``"trainer"``, ``"in-memory"`` or ``"ensemble"``; None takes the fastest that
            is right for the model.

    Raises:
        ArgumentError: ``n_workers`` is not a positive integer, or there is no such engine.
    """

    n_workers: int | None = None
    engine: Engine | None = None
    name: ClassVar[str] = "process"

    def __post_init__(self) -> None:
        if self.n_workers is not None:
            at_least(1, n_workers=self.n_workers)
        allowed_engines(self.engine)

    def __call__(
        self,
        population: Population,
        plan: SubsetPlan,
        model_ids: Sequence[int],
        store: OutcomeStore,
        *,
        notes: Sequence[str] = (),
    ) -> Iterator[int]:
        """Run through ``model_ids``.

        Raises:
            ConfigurationError: The system is not POSIX, or other processes cannot reach the store.
        """
        if not model_ids:
            return
        if not _POSIX:
            raise ConfigurationError(
                "executor='process' needs a POSIX system (Linux, macOS); take executor='ensemble' or 'sequential'"
            )
        check_reachable(store)
        n_workers = min(self.n_workers or default_workers(population), len(model_ids))
        with using_threads(share_of_threads(n_workers)), Crew.beside_this_process(n_workers) as crew:
            crew.start()
            decision = decide(population, plan, model_ids, store, allowed=allowed_engines(self.engine))
            yield from train_in_processes(population, plan, model_ids, store, decision, crew, notes=notes)


def at_least(lowest: int, **numbers: Any) -> None:
    """Check integers.

    Raises:
        ArgumentError: One of them is none, or is too small; it is named.
    """
    for name, number in numbers.items():
        try:
            good = not isinstance(number, bool) and operator.index(number) >= lowest
        except TypeError:
            good = False
        if not good:
            raise ArgumentError(f"{name}={number!r}: an integer of at least {lowest} is needed")


def allowed_engines(engine: Engine | None) -> tuple[Engine, ...]:
    """The ways of training to choose from.

    Raises:
        ArgumentError: There is no such engine.
    """
    if engine is None:
        return ("in-memory", "ensemble")
    if engine not in get_args(Engine):
        raise ArgumentError(f"engine={engine!r}: one of {', '.join(get_args(Engine))} is needed, or None")
    return (engine,)


def can_share(store: OutcomeStore) -> bool:
    """Whether worker processes can be started here, and can write to the store."""
    return _POSIX and not _in_memory(store)


def check_reachable(store: OutcomeStore) -> None:
    """Refuse a store that is in the memory of this process.

    Raises:
        ConfigurationError: It is.
    """
    if _in_memory(store):
        raise ConfigurationError(
            f"store={store.url!r}: other processes cannot reach it; use a folder or a URL, or executor='ensemble'"
        )


def _in_memory(store: OutcomeStore) -> bool:
    return store.url.startswith("memory:")


def make_parcel(
    population: Population,
    plan: SubsetPlan,
    store: OutcomeStore,
    decision: Decision,
    *,
    damaged: Collection[int],
    notes: Sequence[str],
) -> Parcel:
    """What workers need, wherever they run."""
    return Parcel(
        recipe=population.as_given(),
        plan=plan.to_dict(),
        store=store.url if "://" in store.url else store.storage.path(""),
        choice=decision.choice.to_dict(),
        damaged=tuple(damaged),
        notes=tuple(notes),
        path=import_path(),
    )


def deal(model_ids: Sequence[int], choice: Choice, n_workers: int, *, multiple: int = 1) -> Work:
    """Models in leases; a step that is compiled is compiled for one number of models."""
    size = choice.chunk_size
    last = size if choice.compiled else last_size(len(model_ids), size, n_workers)
    return Work(model_ids, size=size, last=last, n_workers=n_workers, multiple=multiple)


def stored_since(population: Population, store: OutcomeStore, damaged: Collection[int]) -> Callable[[int], bool]:
    """Whether a model was recorded since the run began, when some had shards that cannot be read."""
    return lambda model_id: model_id not in damaged and store.has(model_id, population.recipe.arm)


def rows_of(decision: Decision) -> TensorRows | None:
    """The training examples that workers need not read themselves."""
    rows = decision.data.train if decision.data is not None else None
    return rows if isinstance(rows, TensorRows) else None


def train_in_processes(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    store: OutcomeStore,
    decision: Decision,
    crew: Crew,
    *,
    notes: Sequence[str] = (),
) -> Iterator[int]:
    """Train models in this process and those of a crew; what a killed worker left is done by the others.

    Raises:
        NotSentError: The user's objects cannot be sent to other processes.
        TrainingError: The user's code failed, or workers were killed again and again on the same models.
    """
    damaged = {model_id for model_id in model_ids if store.has(model_id, population.recipe.arm)}
    n_workers = crew.size + 1
    work = deal(model_ids, decision.choice, n_workers)
    if crew.size:
        parcel = make_parcel(population, plan, store, decision, damaged=damaged, notes=notes)
        pack(parcel, crew.folder, rows=rows_of(decision))
    crew.open(work, stored_since(population, store, damaged))
    decision = compiled_where_it_pays(population, plan, model_ids, store, decision, n_processes=n_workers)
    if decision.choice.compiled:
        crew.use(decision.choice)
    record(population, store, {**decision.choice.to_dict(), "processes": n_workers})
    while crew.wait():
        yield from crew.stored()
        for model_id in train_lease(population, plan, crew.take(), store, decision, damaged=damaged, notes=notes):
            yield model_id
            yield from crew.stored()
