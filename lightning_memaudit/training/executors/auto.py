"""Whatever is fastest for this recipe on this machine, by a short trial."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lightning_memaudit.training.choice import decide
from lightning_memaudit.training.engines import train_here
from lightning_memaudit.training.executors.process import default_workers, threads_shared_among, train_in_processes
from lightning_memaudit.training.parcel import NotSentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.task import Population

__all__ = ["Auto"]

_log = logging.getLogger(__name__)
_WORTH_WORKERS = 10.0  # seconds in one process; a worker takes about four to start


@dataclass(frozen=True, slots=True)
class Auto:
    """Lightning's loop, the loop in memory or many models at once, in one process or one a core."""

    name: ClassVar[str] = "auto"

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
        if not model_ids:
            return
        n_workers = min(default_workers(), len(model_ids))
        with threads_shared_among(n_workers):
            decision = decide(
                population, plan, model_ids, store, allowed=("in-memory", "ensemble"), n_processes=n_workers
            )
            seconds = (decision.choice.seconds_per_model or 0.0) * len(model_ids)
            if n_workers > 1 and seconds > _WORTH_WORKERS and not store.url.startswith("memory:"):
                try:
                    yield from train_in_processes(
                        population, plan, model_ids, store, decision, n_workers=n_workers, notes=notes
                    )
                except NotSentError as error:
                    _log.warning("one process instead of %d: %s", n_workers, error)
                else:
                    return
        yield from train_here(population, plan, model_ids, store, decision, notes=notes)
