"""What a worker, in whatever process or on whatever machine, trains models with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.training.choice import Choice, Decision
from lightning_memaudit.training.engines import train_here
from lightning_memaudit.training.ensemble.loop import Known
from lightning_memaudit.training.memory import InMemoryData, read_into_memory
from lightning_memaudit.training.parcel import unpack
from lightning_memaudit.training.task import Population, probe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lightning_memaudit.training.parcel import Parcel

__all__ = ["Session"]


@dataclass(slots=True, eq=False)
class Session:
    """A population set up in this process, and checked against the store.

    Attributes:
        parcel: What was sent.
        population: The recipe, with its data.
        plan: The subset plan.
        store: Where shards go.
        decision: How models are trained.
    """

    parcel: Parcel
    population: Population
    plan: SubsetPlan
    store: OutcomeStore
    decision: Decision

    @classmethod
    def open(cls, folder: Path) -> Session:
        """Unpack a parcel, set up the data under the plan's seed, and check them against the store.

        Raises:
            MismatchError: The data or the model are other ones in this process.
        """
        parcel, rows = unpack(folder)
        plan = SubsetPlan.from_dict(dict(parcel.plan))
        population = Population(parcel.recipe, plan.seed)
        store = OutcomeStore(parcel.store)
        probe(population, plan, store, notes=parcel.notes)
        choice = Choice(**parcel.choice)
        data: InMemoryData | None = None
        if choice.engine != "trainer":
            data = read_into_memory(population, train=rows)
        known = Known(compiled=choice.compiled)
        return cls(parcel, population, plan, store, Decision(choice, data, known))

    def train(self, model_ids: Sequence[int]) -> Iterator[int]:
        """Train, score and record models; yields the number of each that is in the store."""
        return train_here(self.population, self.plan, model_ids, self.store, self.decision, notes=self.parcel.notes)
