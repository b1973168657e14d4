"""Whatever is fastest for this recipe on this machine, by a short trial."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from lightning_memaudit.training.engines.choice import EngineOptions, engines_to_try
from lightning_memaudit.training.engines.selection import decide
from lightning_memaudit.training.engines.train import train_here
from lightning_memaudit.training.engines.tuning import compiled_where_it_pays
from lightning_memaudit.training.timing import Thresholds
from lightning_memaudit.training.workers.dispatch import can_share, train_in_processes
from lightning_memaudit.training.workers.pool import WorkerPool
from lightning_memaudit.training.workers.resources import default_workers, share_of_threads, using_threads
from lightning_memaudit.training.workers.serialization import NotSentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.training.engines.choice import ChosenEngine, Tuning
    from lightning_memaudit.training.run import Run

__all__ = ["Auto"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Auto:
    """Lightning's loop, the loop in memory or many models at once, in one process or one a core.

    Args:
        tuning: ``"full"``, or ``"off"``: neither compile a training step nor change how the C library keeps memory.
        thresholds: When faster engines are tried and taken, and when worker processes start.

    Raises:
        ArgumentError: There is no such tuning.
    """

    tuning: Tuning = "full"
    thresholds: Thresholds = field(default_factory=Thresholds)
    name: ClassVar[str] = "auto"

    def __post_init__(self) -> None:
        EngineOptions(self.tuning)

    def train(self, run: Run, model_ids: Sequence[int], engine: ChosenEngine) -> Iterator[int]:
        """Train ``model_ids``."""
        if not model_ids:
            return
        thresholds = self.thresholds
        n_workers = min(default_workers(run.population), len(model_ids)) if can_share(run.store) else 1
        done: set[int] = set()
        with (
            using_threads(share_of_threads(n_workers)),
            WorkerPool.beside_this_process(n_workers, most_starts=thresholds.worker_starts) as pool,
        ):

            def foresee(seconds: float) -> None:
                if seconds > thresholds.start_workers:
                    pool.start()

            options = EngineOptions(self.tuning, thresholds)
            decision = decide(run, model_ids, engine, options, allowed=engines_to_try(None), foresee=foresee)
            seconds = decision.choice.seconds_per_model
            if seconds is None and n_workers > 1:  # Lightning's own loop, which was not timed
                started = time.perf_counter()
                yield from train_here(run, model_ids[:1], decision)
                done.add(model_ids[0])
                seconds = time.perf_counter() - started
            todo = [model_id for model_id in model_ids if model_id not in done]
            worth = thresholds.use_started_workers if pool.is_started else thresholds.use_workers
            if n_workers > 1 and (seconds or 0.0) * len(todo) > worth:
                try:
                    for model_id in train_in_processes(run, todo, decision, engine, pool):
                        done.add(model_id)
                        yield model_id
                except NotSentError as error:
                    _log.warning("one process instead of %d: %s", n_workers, error)
        todo = [model_id for model_id in model_ids if model_id not in done]
        if todo:
            decision = engine.decision = compiled_where_it_pays(run, todo, decision)
        yield from train_here(run, todo, decision)
