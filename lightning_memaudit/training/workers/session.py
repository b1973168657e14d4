"""What a worker, in whatever process or on whatever machine, trains models with."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.outcomes.arms import FULL
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.training.engines.choice import Decision, EngineChoice
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.engines.train import train_here
from lightning_memaudit.training.engines.tuning import compiled_if_asked
from lightning_memaudit.training.population import prepare_population
from lightning_memaudit.training.probe import probe
from lightning_memaudit.training.run import Run
from lightning_memaudit.training.workers.serialization import unpack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

__all__ = ["Session", "train_lease"]


@dataclass(slots=True, eq=False)
class Session:
    """A run set up in this process, and checked against its store.

    Attributes:
        run: The run, with its data set up and probed.
        damaged: Models whose shard was there when the run began, and cannot be read.
        decision: How models are trained.
        choice: How they are to be trained from the next ones on.
    """

    run: Run
    damaged: Collection[int]
    decision: Decision
    choice: EngineChoice

    @classmethod
    def open(cls, folder: Path) -> Session:
        """Unpack a run, set up the data under the plan's seed, and check them against the store.

        Raises:
            ConfigurationError: The store cannot be reached from here.
            MismatchError: The data or the model are other ones in this process.
        """
        serialized, rows = unpack(folder)
        store = OutcomeStore(serialized.store)
        if not store.exists:
            raise ConfigurationError(
                f"store={store.url!r}: a worker on {platform.node()} does not find it; all workers need to reach it, "
                "through a shared folder or a URL"
            )
        plan = SubsetPlan.from_dict(dict(serialized.plan))
        plan = plan.complete() if serialized.recipe.arm.startswith(FULL) else plan
        run = Run(prepare_population(serialized.recipe, plan.seed), plan, store, tuple(serialized.notes))
        run = replace(run, probe=probe(run))
        choice = EngineChoice.from_dict(serialized.choice)
        data = None if choice.engine == "trainer" else read_into_memory(run.population, train=rows)
        plain = Decision(replace(choice, compiled=False), data, options=serialized.options)
        return cls(run, serialized.damaged, plain, choice)

    def train(self, model_ids: Sequence[int]) -> Iterator[int]:
        """Train, score and record models; yields the number of each that is in the store."""
        self.decision = compiled_if_asked(self.run, model_ids, self.decision, self.choice)
        return train_lease(self.run, model_ids, self.decision, damaged=self.damaged)


def train_lease(run: Run, model_ids: Sequence[int], decision: Decision, *, damaged: Collection[int]) -> Iterator[int]:
    """``train_here`` for some models of a run; shards that came since it began are passed over.

    Args:
        run: Of the models, with what its probe said.
        model_ids: Which models.
        decision: How they are trained.
        damaged: Models whose shard was there when the run began, and cannot be read.
    """
    recorded = [model_id for model_id in model_ids if model_id not in damaged and run.store.has(model_id, run.arm)]
    yield from recorded
    rest = [model_id for model_id in model_ids if model_id not in recorded]
    yield from train_here(run, rest, decision)
