"""What a process does before it hands models to workers."""

from __future__ import annotations

from pathlib import Path

from lightning_memaudit import OutcomeStore, SubsetPlan
from lightning_memaudit.training.engines.choice import Choice, Decision
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.executors.process import make_parcel, rows_of
from lightning_memaudit.training.factories import data_factory, model_factory, trainer_recipe
from lightning_memaudit.training.task import Population, Recipe, probe
from lightning_memaudit.training.workers.serialization import pack
from tests.helpers.tiny import TRAINER, TinyData, TinyNet


class Driver:
    """A population, its store, and a parcel of it in a folder."""

    def __init__(
        self, folder: Path, *, engine="in-memory", chunk_size=1, model=TinyNet, data=TinyData, damaged=()
    ) -> None:
        recipe = Recipe(model_factory(model, None), data_factory(data), trainer_recipe(TRAINER))
        self.population = Population(recipe, 0)
        self.plan = SubsetPlan(40)
        self.store = OutcomeStore(folder / "store")
        probe(self.population, self.plan, self.store)
        rows = None if engine == "trainer" else read_into_memory(self.population)
        self.decision = Decision(Choice(engine, chunk_size), rows)
        self.parcel = folder / "parcel"
        self.parcel.mkdir()
        content = make_parcel(
            self.population, self.plan, self.store, self.decision, damaged=damaged, notes=("logger left out",)
        )
        pack(content, self.parcel, rows=rows_of(self.decision))

    def shards(self) -> dict[str, bytes]:
        """The files of all models."""
        return {path.name: path.read_bytes() for path in (Path(self.store.url) / "outcomes/baseline").iterdir()}
