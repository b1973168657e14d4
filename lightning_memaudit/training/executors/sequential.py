"""One model after the other, or many at once, in this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from lightning_memaudit.training.engines.choice import EngineOptions
from lightning_memaudit.training.engines.selection import decide
from lightning_memaudit.training.engines.train import train_here
from lightning_memaudit.training.engines.tuning import compiled_where_it_pays
from lightning_memaudit.training.timing import Thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.training.engines.choice import ChosenEngine, EngineName, Tuning
    from lightning_memaudit.training.run import Run

__all__ = ["Ensemble", "PlainTrainer", "Sequential"]


@dataclass(frozen=True, slots=True)
class PlainTrainer:
    """One ``lightning.Trainer`` a model and nothing else: what all other executors are held against."""

    name: ClassVar[str] = "trainer"

    def train(self, run: Run, model_ids: Sequence[int], engine: ChosenEngine) -> Iterator[int]:
        """Train ``model_ids``."""
        return _train(run, model_ids, engine, EngineOptions(), allowed=())


@dataclass(frozen=True, slots=True)
class Sequential:
    """One model after the other, on examples in memory where that gives the Trainer's very weights."""

    name: ClassVar[str] = "sequential"

    def train(self, run: Run, model_ids: Sequence[int], engine: ChosenEngine) -> Iterator[int]:
        """Train ``model_ids``."""
        return _train(run, model_ids, engine, EngineOptions(), allowed=("in-memory",))


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Many models at once where the module allows it, else one after the other.

    Args:
        tuning: ``"full"``, or ``"off"``: neither compile the training step nor change how the C library keeps memory.
        thresholds: When larger chunks are tried, and when the step is compiled.

    Raises:
        ArgumentError: There is no such tuning.
    """

    tuning: Tuning = "full"
    thresholds: Thresholds = field(default_factory=Thresholds)
    name: ClassVar[str] = "ensemble"

    def __post_init__(self) -> None:
        EngineOptions(self.tuning)

    def train(self, run: Run, model_ids: Sequence[int], engine: ChosenEngine) -> Iterator[int]:
        """Train ``model_ids``."""
        return _train(run, model_ids, engine, EngineOptions(self.tuning, self.thresholds), allowed=("ensemble",))


def _train(
    run: Run, model_ids: Sequence[int], engine: ChosenEngine, options: EngineOptions, *, allowed: Sequence[EngineName]
) -> Iterator[int]:
    if model_ids:
        decision = decide(run, model_ids, engine, options, allowed=allowed)
        decision = engine.decision = compiled_where_it_pays(run, model_ids, decision)
        yield from train_here(run, model_ids, decision)
