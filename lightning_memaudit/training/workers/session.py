"""What a worker, in whatever process or on whatever machine, trains models with."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.outcomes.arms import FULL
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.training.engines.choice import Choice, Decision
from lightning_memaudit.training.engines.compilation import compiled_if_asked
from lightning_memaudit.training.engines.in_memory.data import InMemoryData, read_into_memory
from lightning_memaudit.training.engines.train import train_here
from lightning_memaudit.training.task import Population, probe
from lightning_memaudit.training.workers.serialization import unpack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from lightning_memaudit.training.workers.serialization import Parcel

__all__ = ["Session", "train_lease"]


@dataclass(slots=True, eq=False)
class Session:
    """A population set up in this process, and checked against the store.

    Attributes:
        parcel: What was sent.
        population: The recipe, with its data.
        plan: The subset plan.
        store: Where shards go.
        decision: How models are trained.
        choice: How they are to be trained from the next ones on.
    """

    parcel: Parcel
    population: Population
    plan: SubsetPlan
    store: OutcomeStore
    decision: Decision
    choice: Choice

    @classmethod
    def open(cls, folder: Path) -> Session:
        """Unpack a parcel, set up the data under the plan's seed, and check them against the store.

        Raises:
            ConfigurationError: The store cannot be reached from here.
            MismatchError: The data or the model are other ones in this process.
        """
        parcel, rows = unpack(folder)
        store = OutcomeStore(parcel.store)
        if not store.exists:
            raise ConfigurationError(
                f"store={store.url!r}: a worker on {platform.node()} does not find it; all workers need to reach it, "
                "through a shared folder or a URL"
            )
        plan = SubsetPlan.from_dict(dict(parcel.plan))
        plan = plan.complete() if parcel.recipe.arm.startswith(FULL) else plan
        population = Population(parcel.recipe, plan.seed)
        probe(population, plan, store, notes=parcel.notes)
        choice = Choice(**parcel.choice)
        data: InMemoryData | None = None
        if choice.engine != "trainer":
            data = read_into_memory(population, train=rows)
        plain = Decision(replace(choice, compiled=False), data)
        return cls(parcel, population, plan, store, plain, choice)

    def train(self, model_ids: Sequence[int]) -> Iterator[int]:
        """Train, score and record models; yields the number of each that is in the store."""
        self.decision = compiled_if_asked(self.population, self.plan, model_ids, self.decision, self.choice)
        return train_lease(
            self.population,
            self.plan,
            model_ids,
            self.store,
            self.decision,
            damaged=self.parcel.damaged,
            notes=self.parcel.notes,
        )


def train_lease(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    store: OutcomeStore,
    decision: Decision,
    *,
    damaged: Collection[int],
    notes: Sequence[str] = (),
) -> Iterator[int]:
    """``train_here`` for some models of a population; shards that came since the run began are passed over.

    Args:
        population: The prepared recipe.
        plan: The subset plan.
        model_ids: Which models.
        store: Where their shards go.
        decision: How they are trained.
        damaged: Models whose shard was there when the run began, and cannot be read.
        notes: For the manifest.
    """
    arm = population.recipe.arm
    recorded = [model_id for model_id in model_ids if model_id not in damaged and store.has(model_id, arm)]
    yield from recorded
    rest = [model_id for model_id in model_ids if model_id not in recorded]
    yield from train_here(population, plan, rest, store, decision, notes=notes)
