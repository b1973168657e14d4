"""One model after the other, or many at once, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lightning_memaudit.training.engines.choice import decide
from lightning_memaudit.training.engines.compilation import compiled_where_it_pays
from lightning_memaudit.training.engines.train import train_here

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.engines.choice import Engine
    from lightning_memaudit.training.task import Population

__all__ = ["Ensemble", "PlainTrainer", "Sequential"]


@dataclass(frozen=True, slots=True)
class PlainTrainer:
    """One ``lightning.Trainer`` a model and nothing else: what all other executors are held against."""

    name: ClassVar[str] = "trainer"

    def __call__(
        self,
        population: Population,
        plan: SubsetPlan,
        model_ids: Sequence[int],
        store: OutcomeStore,
        *,
        notes: Sequence[str] = (),
    ) -> Iterator[int]:
        """Run through ``model_ids``."""
        return _run(population, plan, model_ids, store, notes, allowed=())


@dataclass(frozen=True, slots=True)
class Sequential:
    """One model after the other, on examples in memory where that gives the Trainer's very weights."""

    name: ClassVar[str] = "sequential"

    def __call__(
        self,
        population: Population,
        plan: SubsetPlan,
        model_ids: Sequence[int],
        store: OutcomeStore,
        *,
        notes: Sequence[str] = (),
    ) -> Iterator[int]:
        """Run through ``model_ids``."""
        return _run(population, plan, model_ids, store, notes, allowed=("in-memory",))


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Many models at once where the module allows it, else one after the other."""

    name: ClassVar[str] = "ensemble"

    def __call__(
        self,
        population: Population,
        plan: SubsetPlan,
        model_ids: Sequence[int],
        store: OutcomeStore,
        *,
        notes: Sequence[str] = (),
    ) -> Iterator[int]:
        """Run through ``model_ids``."""
        return _run(population, plan, model_ids, store, notes, allowed=("ensemble",))


def _run(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    store: OutcomeStore,
    notes: Sequence[str],
    *,
    allowed: Sequence[Engine],
) -> Iterator[int]:
    if model_ids:
        decision = decide(population, plan, model_ids, store, allowed=allowed)
        decision = compiled_where_it_pays(population, plan, model_ids, store, decision)
        yield from train_here(population, plan, model_ids, store, decision, notes=notes)
