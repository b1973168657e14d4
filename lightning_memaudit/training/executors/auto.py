"""Whatever is fastest for this recipe on this machine, by a short trial."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lightning_memaudit.training.engines.choice import decide
from lightning_memaudit.training.engines.compilation import compiled_where_it_pays
from lightning_memaudit.training.engines.train import train_here
from lightning_memaudit.training.executors.process import allowed_engines, can_share, train_in_processes
from lightning_memaudit.training.workers.pool import Crew
from lightning_memaudit.training.workers.resources import default_workers, share_of_threads, using_threads
from lightning_memaudit.training.workers.serialization import NotSentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.task import Population

__all__ = ["Auto"]

_log = logging.getLogger(__name__)
_WORTH_STARTING = 12.0  # seconds of one model after the other: workers start while faster ways are tried
_WORTH_STARTED = 2.0  # seconds in one process, set-up and scores not counted, with workers about to be ready
_WORTH_WORKERS = 6.0  # the same, with workers that have to be started


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
        n_workers = min(default_workers(population), len(model_ids)) if can_share(store) else 1
        done: set[int] = set()
        with using_threads(share_of_threads(n_workers)), Crew.beside_this_process(n_workers) as crew:

            def foresee(seconds: float) -> None:
                if seconds > _WORTH_STARTING:
                    crew.start()

            decision = decide(
                population,
                plan,
                model_ids,
                store,
                allowed=allowed_engines(None),
                foresee=foresee,
            )
            seconds = decision.choice.seconds_per_model
            if seconds is None and n_workers > 1:  # Lightning's own loop, which was not timed
                started = time.perf_counter()
                yield from train_here(population, plan, model_ids[:1], store, decision, notes=notes)
                done.add(model_ids[0])
                seconds = time.perf_counter() - started
            todo = [model_id for model_id in model_ids if model_id not in done]
            worth = _WORTH_STARTED if crew.is_started else _WORTH_WORKERS
            if n_workers > 1 and (seconds or 0.0) * len(todo) > worth:
                try:
                    for model_id in train_in_processes(population, plan, todo, store, decision, crew, notes=notes):
                        done.add(model_id)
                        yield model_id
                except NotSentError as error:
                    _log.warning("one process instead of %d: %s", n_workers, error)
        todo = [model_id for model_id in model_ids if model_id not in done]
        if todo:
            decision = compiled_where_it_pays(population, plan, todo, store, decision)
        yield from train_here(population, plan, todo, store, decision, notes=notes)
