"""What a process does before it hands models to workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lightning_memaudit import OutcomeStore, SubsetPlan
from lightning_memaudit.training.engines.choice import Decision, EngineChoice, EngineOptions
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.factories import data_factory, model_factory, trainer_recipe
from lightning_memaudit.training.population import Recipe, prepare_population
from lightning_memaudit.training.probe import probe
from lightning_memaudit.training.run import Run
from lightning_memaudit.training.workers.dispatch import serialized_run, shared_rows
from lightning_memaudit.training.workers.serialization import pack
from tests.helpers.tiny import TRAINER, TinyData, TinyNet


class Driver:
    """A run, and the files of it in a folder."""

    def __init__(
        self, folder: Path, *, engine="in-memory", chunk_size=1, model=TinyNet, data=TinyData, damaged=(), tuning="full"
    ) -> None:
        recipe = Recipe(model_factory(model, None), data_factory(data), trainer_recipe(TRAINER))
        self.store = OutcomeStore(folder / "store")
        run = Run(prepare_population(recipe, 0), SubsetPlan(40), self.store, ("logger left out",))
        self.run = replace(run, probe=probe(run))
        rows = None if engine == "trainer" else read_into_memory(self.run.population)
        self.decision = Decision(EngineChoice(engine, chunk_size), rows, options=EngineOptions(tuning))
        self.files = folder / "serialized"
        self.files.mkdir()
        pack(serialized_run(self.run, self.decision, damaged=damaged), self.files, rows=shared_rows(self.decision))

    def shards(self) -> dict[str, bytes]:
        """The files of all models."""
        return {path.name: path.read_bytes() for path in (Path(self.store.url) / "outcomes/baseline").iterdir()}
