"""Trains models in this process, by whichever engine was chosen, and records each of them."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lightning_memaudit.exceptions import TrainingError
from lightning_memaudit.training.engines.ensemble.chunk import score_chunk, train_chunk
from lightning_memaudit.training.engines.malloc import freed_memory_kept
from lightning_memaudit.training.engines.support import NotHonoured
from lightning_memaudit.training.task import one_model, train_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.engines.choice import Decision
    from lightning_memaudit.training.engines.in_memory.data import InMemoryData
    from lightning_memaudit.training.task import Population

__all__ = ["train_here"]

_log = logging.getLogger(__name__)


def train_here(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    store: OutcomeStore,
    decision: Decision,
    *,
    notes: Sequence[str] = (),
) -> Iterator[int]:
    """Train, score and record models, but for those that another process has recorded meanwhile.

    Args:
        population: The prepared recipe.
        plan: The subset plan.
        model_ids: Which models; a damaged shard of one of them is written anew.
        store: Where their shards go.
        decision: How.
        notes: For the manifest.

    Yields:
        The number of each model whose shard is in the store.
    """
    arm = population.recipe.arm
    damaged = {model_id for model_id in model_ids if store.has(model_id, arm)}

    def is_stored(model_id: int) -> bool:
        return model_id not in damaged and store.has(model_id, arm)

    size = decision.choice.chunk_size
    if decision.choice.engine == "ensemble":
        with freed_memory_kept():
            for start in range(0, len(model_ids), size):
                chunk = model_ids[start : start + size]
                _train_together(population, plan, [k for k in chunk if not is_stored(k)], store, decision)
                yield from chunk
        return
    for model_id in model_ids:
        if not is_stored(model_id):
            _train_one(population, plan, model_id, store, decision.data, notes)
        yield model_id


def _train_together(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    store: OutcomeStore,
    decision: Decision,
) -> None:
    data = decision.data
    if not model_ids or data is None:
        return
    try:
        with one_model(model_ids[0]):
            chunk = train_chunk(population, plan, model_ids, data, decision.known)
            shards = score_chunk(population, plan, chunk, data)
    except (NotHonoured, TrainingError) as error:  # such as subsets of different sizes, or .item() in a late epoch
        _log.warning("%d models are trained one after the other: %s", len(model_ids), error)
        for model_id in model_ids:
            _train_one(population, plan, model_id, store, data, ())
        return
    arm = population.recipe.arm
    for index, model_id in enumerate(model_ids):
        if model_id in population.recipe.keep_weights:
            store.write_weights(model_id, chunk.stack.member(index), arm=arm)
    with ThreadPoolExecutor(max_workers=4) as pool:  # the time goes into waiting for the disk
        for written in [pool.submit(store.write, shard, arm=arm) for shard in shards]:
            written.result()


def _train_one(
    population: Population,
    plan: SubsetPlan,
    model_id: int,
    store: OutcomeStore,
    data: InMemoryData | None,
    notes: Sequence[str],
) -> None:
    if data is not None:
        try:
            train_model(population, plan, model_id, store, notes=notes, data=data)
        except NotHonoured as error:  # something that came up late in training, such as trainer.should_stop
            _log.info("model %d is trained by Lightning's own loop: %s", model_id, error)
        else:
            return
    train_model(population, plan, model_id, store, notes=notes)
