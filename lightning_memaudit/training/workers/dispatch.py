"""Sends a run to other processes and deals its models out to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_memaudit.data.rows import TensorRows
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.training.engines.choice import record
from lightning_memaudit.training.engines.tuning import compiled_where_it_pays
from lightning_memaudit.training.workers.queue import ModelQueue, last_size
from lightning_memaudit.training.workers.resources import processes_can_start
from lightning_memaudit.training.workers.serialization import SerializedRun, import_path, pack
from lightning_memaudit.training.workers.session import train_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.engines.choice import ChosenEngine, Decision, EngineChoice
    from lightning_memaudit.training.run import Run
    from lightning_memaudit.training.workers.pool import WorkerPool

__all__ = [
    "can_share",
    "check_reachable",
    "deal",
    "serialized_run",
    "shared_rows",
    "stored_before",
    "stored_since",
    "train_in_processes",
]


def can_share(store: OutcomeStore) -> bool:
    """Whether worker processes can be started here, and can write to the store."""
    return processes_can_start() and not _in_memory(store)


def check_reachable(store: OutcomeStore) -> None:
    """Refuse a store that is in the memory of this process.

    Raises:
        ConfigurationError: It is.
    """
    if _in_memory(store):
        raise ConfigurationError(
            f"store={store.url!r}: other processes cannot reach it; use a folder or a URL, or executor='ensemble'"
        )


def stored_before(run: Run, model_ids: Sequence[int]) -> frozenset[int]:
    """The models that have a shard although they are to be trained: it is damaged."""
    return frozenset(model_id for model_id in model_ids if run.store.has(model_id, run.arm))


def stored_since(run: Run, damaged: Collection[int]) -> Callable[[int], bool]:
    """Whether a model was recorded since the run began, when some had shards that cannot be read."""
    return lambda model_id: model_id not in damaged and run.store.has(model_id, run.arm)


def serialized_run(run: Run, decision: Decision, *, damaged: Collection[int]) -> SerializedRun:
    """What workers need, wherever they run.

    Args:
        run: Of the models.
        decision: How they are trained.
        damaged: Models whose shard cannot be read.
    """
    store = run.store
    return SerializedRun(
        recipe=run.population.given,
        plan=run.plan.to_dict(),
        store=store.url if "://" in store.url else store.storage.path(""),
        choice=decision.choice.to_dict(),
        damaged=tuple(damaged),
        notes=run.notes,
        path=import_path(),
        options=decision.options,
    )


def deal(model_ids: Sequence[int], choice: EngineChoice, n_workers: int, *, multiple: int = 1) -> ModelQueue:
    """Models in leases; a step that is compiled is compiled for one number of models.

    Args:
        model_ids: Which models.
        choice: How they are trained.
        n_workers: How many processes share them.
        multiple: Chunks in a lease, at most.
    """
    size = choice.chunk_size
    last = size if choice.compiled else last_size(len(model_ids), size, n_workers)
    return ModelQueue(model_ids, size=size, last=last, n_workers=n_workers, multiple=multiple)


def shared_rows(decision: Decision) -> TensorRows | None:
    """The training examples that workers need not read themselves."""
    rows = decision.data.train if decision.data is not None else None
    return rows if isinstance(rows, TensorRows) else None


def train_in_processes(
    run: Run, model_ids: Sequence[int], decision: Decision, engine: ChosenEngine, pool: WorkerPool
) -> Iterator[int]:
    """Train models in this process and those of a pool; what a killed worker left is done by the others.

    Args:
        run: Of the models, with what its probe said.
        model_ids: Which models.
        decision: How they are trained.
        engine: Keeps the decision where it changes: the step is compiled while workers train.
        pool: The workers, of which some may have started.

    Raises:
        NotSentError: The user's objects cannot be sent to other processes.
        TrainingError: The user's code failed, or workers were killed again and again on the same models.
    """
    damaged = stored_before(run, model_ids)
    n_workers = pool.n_beside + 1
    queue = deal(model_ids, decision.choice, n_workers)
    if pool.n_beside:
        pack(serialized_run(run, decision, damaged=damaged), pool.folder, rows=shared_rows(decision))
    pool.open(queue, stored_since(run, damaged))
    decision = engine.decision = compiled_where_it_pays(run, model_ids, decision, n_workers=n_workers)
    if decision.choice.compiled:
        pool.use(decision.choice)
    record(run, {**decision.choice.to_dict(), "processes": n_workers})
    while pool.wait():
        yield from pool.stored()
        for model_id in train_lease(run, pool.take(), decision, damaged=damaged):
            yield model_id
            yield from pool.stored()


def _in_memory(store: OutcomeStore) -> bool:
    return store.url.startswith("memory:")
