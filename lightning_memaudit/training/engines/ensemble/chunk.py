"""One chunk of models, from their seeds to their shards."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lightning_memaudit.data.datamodule import SubsetDataModule
from lightning_memaudit.data.epoch_order import EpochOrder
from lightning_memaudit.data.randomness import seeded
from lightning_memaudit.outcomes.scoring import find_score_function
from lightning_memaudit.outcomes.shard import Shard
from lightning_memaudit.training.engines.ensemble.loop import ChunkMemo, EnsembleLoop, Member
from lightning_memaudit.training.engines.ensemble.scoring import score_stack
from lightning_memaudit.training.engines.in_memory.support import StoppedEarly
from lightning_memaudit.training.population import silenced
from lightning_memaudit.training.task import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import LightningModule

    from lightning_memaudit.data.rows import InMemoryData
    from lightning_memaudit.training.engines.ensemble.stack import Stack
    from lightning_memaudit.training.run import Run

__all__ = ["TrainedChunk", "score_chunk", "train_chunk"]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedChunk:
    """Models that were trained together.

    Attributes:
        model_ids: Their numbers.
        stack: Their parameters and buffers.
        pl_module: A module of their architecture.
        seconds: Time that training took.
        seconds_per_step: Of the fastest step, which was disturbed least; of all models together.
    """

    model_ids: tuple[int, ...]
    stack: Stack
    pl_module: LightningModule
    seconds: float
    seconds_per_step: float


def train_chunk(
    run: Run, model_ids: Sequence[int], data: InMemoryData, memo: ChunkMemo, *, n_steps: int | None = None
) -> TrainedChunk:
    """Train several models at once.

    Args:
        run: Of the models.
        model_ids: Which models.
        data: The examples in memory.
        memo: What earlier chunks found out.
        n_steps: Stop after so many steps; None trains to the end.

    Raises:
        Unsupported: These models cannot be trained so; the message says why.
    """
    started = time.perf_counter()
    with silenced():
        members = [_member(run, model_id) for model_id in model_ids]
        with seeded(run.plan.model_seed(model_ids[0])):
            spare = run.population.recipe.model()
    loop = EnsembleLoop(data.train, members, spare=spare, memo=memo, n_steps=n_steps)
    template: list[LightningModule] = []
    try:
        trainer = fit(run, model_ids[0], [loop], validate=False, in_process=True)
        template.append(trainer.lightning_module)
    except StoppedEarly:
        template.append(spare)
    seconds = time.perf_counter() - started
    return TrainedChunk(tuple(model_ids), loop.stack, template[0], seconds, min(loop.step_seconds or [0.0]))


def score_chunk(run: Run, chunk: TrainedChunk, data: InMemoryData) -> list[Shard]:
    """Score the models of a chunk on every example: one shard each.

    Args:
        run: Of the models.
        chunk: The trained models.
        data: The examples in memory.
    """
    started = time.perf_counter()
    score_fn = find_score_function(run.population.recipe.score_fn)
    with silenced(), seeded(run.plan.seed):
        scores = score_stack(chunk.pl_module, chunk.stack, data.scoring, score_fn)
    seconds = (chunk.seconds + time.perf_counter() - started) / len(chunk.model_ids)
    return [
        Shard.of_model(run.plan, model_id, of_model, wall_seconds=seconds)
        for model_id, of_model in zip(chunk.model_ids, scores, strict=True)
    ]


def _member(run: Run, model_id: int) -> Member:
    with seeded(run.plan.model_seed(model_id)):
        module = run.population.recipe.model()
        order = EpochOrder(SubsetDataModule(run.population.source, run.plan, model_id).train_dataloader())
        order.start_epoch()
        return Member(module, order, torch.get_rng_state())
