"""How the models of a population are run through: each executor leaves the same store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.training.executors.sequential import run_sequential

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.task import Population

__all__ = ["Executor", "ExecutorName", "find_executor"]

ExecutorName = Literal["auto", "sequential"]


class Executor(Protocol):
    """Trains models and writes their shards; yields the number of each model whose shard is in the store."""

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


def find_executor(name: str) -> Executor:
    """The executor of a name; ``auto`` is the best one there is for the model.

    Raises:
        ArgumentError: No executor of that name.
    """
    known: dict[str, Executor] = {"auto": run_sequential, "sequential": run_sequential}
    if name not in known:
        raise ArgumentError(f"executor={name!r}: one of {', '.join(known)}")
    return known[name]
