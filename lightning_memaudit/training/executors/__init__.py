"""How the models of a population are run through: each executor leaves the same store."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.training.executors.auto import Auto
from lightning_memaudit.training.executors.process import Process
from lightning_memaudit.training.executors.ray import Ray
from lightning_memaudit.training.executors.sequential import Ensemble, PlainTrainer, Sequential

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.task import Population

__all__ = [
    "Auto",
    "Ensemble",
    "Executor",
    "ExecutorName",
    "PlainTrainer",
    "Process",
    "Ray",
    "Sequential",
    "find_executor",
]

ExecutorName = Literal["auto", "trainer", "sequential", "ensemble", "process", "ray"]


@runtime_checkable
class Executor(Protocol):
    """Trains models and writes their shards; yields the number of each model whose shard is in the store."""

    name: ClassVar[str]

    def __call__(
        self,
        population: Population,
        plan: SubsetPlan,
        model_ids: Sequence[int],
        store: OutcomeStore,
        *,
        notes: Sequence[str],
    ) -> Iterator[int]:
        """Run through ``model_ids``."""
        ...  # pragma: no cover


def find_executor(executor: ExecutorName | Executor | str) -> Executor:
    """The executor of a name, or the executor itself.

    Raises:
        ArgumentError: No executor of that name.
    """
    known = {kind.name: kind for kind in (Auto, PlainTrainer, Sequential, Ensemble, Process, Ray)}
    if isinstance(executor, str) and executor in known:
        return known[executor]()
    if isinstance(executor, Executor) and not isinstance(executor, type):
        return executor
    raise ArgumentError(
        f"executor={executor!r}: one of {', '.join(known)}, or an executor such as "
        "training.executors.Process(n_workers=4)"
    )
