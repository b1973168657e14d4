"""Trains models in this process, by whichever engine was chosen, and records each of them."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lightning_memaudit.exceptions import TrainingError
from lightning_memaudit.training.engines.ensemble.chunk import score_chunk, train_chunk
from lightning_memaudit.training.engines.in_memory.loop import train_in_memory
from lightning_memaudit.training.engines.in_memory.support import Unsupported
from lightning_memaudit.training.engines.tuning import memory_kept_for_steps
from lightning_memaudit.training.task import one_model, train_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.data.rows import InMemoryData
    from lightning_memaudit.training.engines.choice import Decision
    from lightning_memaudit.training.run import Run

__all__ = ["train_here"]

_log = logging.getLogger(__name__)


def train_here(run: Run, model_ids: Sequence[int], decision: Decision) -> Iterator[int]:
    """Train, score and record models, but for those that another process has recorded meanwhile.

    Args:
        run: Of the models, with what its probe said.
        model_ids: Which models; a damaged shard of one of them is written anew.
        decision: How.

    Yields:
        The number of each model whose shard is in the store.
    """
    damaged = {model_id for model_id in model_ids if run.store.has(model_id, run.arm)}

    def is_stored(model_id: int) -> bool:
        return model_id not in damaged and run.store.has(model_id, run.arm)

    size = decision.choice.chunk_size
    if decision.choice.engine == "ensemble":
        with memory_kept_for_steps(decision.options.tuning):
            for start in range(0, len(model_ids), size):
                chunk = model_ids[start : start + size]
                _train_together(run, [k for k in chunk if not is_stored(k)], decision)
                yield from chunk
        return
    for model_id in model_ids:
        if not is_stored(model_id):
            _train_one(run, model_id, decision.data)
        yield model_id


def _train_together(run: Run, model_ids: Sequence[int], decision: Decision) -> None:
    data = decision.data
    if not model_ids or data is None:
        return
    try:
        with one_model(model_ids[0]):
            chunk = train_chunk(run, model_ids, data, decision.memo)
            shards = score_chunk(run, chunk, data)
    except (Unsupported, TrainingError) as error:  # such as subsets of different sizes, or .item() in a late epoch
        _log.warning("%d models are trained one after the other: %s", len(model_ids), error)
        for model_id in model_ids:
            _train_one(run, model_id, data)
        return
    for index, model_id in enumerate(model_ids):
        if model_id in run.population.recipe.keep_weights:
            run.store.write_weights(model_id, chunk.stack.member(index), arm=run.arm)
    with ThreadPoolExecutor(max_workers=4) as pool:  # the time goes into waiting for the disk
        for written in [pool.submit(run.store.write, shard, arm=run.arm) for shard in shards]:
            written.result()


def _train_one(run: Run, model_id: int, data: InMemoryData | None) -> None:
    if data is not None:
        try:
            train_in_memory(run, model_id, data)
        except Unsupported as error:  # something that came up late in training, such as trainer.should_stop
            _log.info("model %d is trained by Lightning's own loop: %s", model_id, error)
        else:
            return
    train_model(run, model_id)
