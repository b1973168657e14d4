"""The reference executor: one ``lightning.Trainer`` a model, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_memaudit.training.task import train_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.task import Population

__all__ = ["run_sequential"]


def run_sequential(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    store: OutcomeStore,
    *,
    notes: Sequence[str] = (),
) -> Iterator[int]:
    """Train, score and record each model in turn, but for those that another process has recorded meanwhile."""
    damaged = {model_id for model_id in model_ids if store.has(model_id)}
    for model_id in model_ids:
        if model_id in damaged or not store.has(model_id):
            train_model(population, plan, model_id, store, notes=notes)
        yield model_id
