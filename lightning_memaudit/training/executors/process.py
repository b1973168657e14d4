"""Several processes on this machine; this one trains along."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.functional.checks import as_positive_int
from lightning_memaudit.training.engines.choice import EngineOptions, engines_to_try
from lightning_memaudit.training.engines.selection import decide
from lightning_memaudit.training.timing import Thresholds
from lightning_memaudit.training.workers.dispatch import check_reachable, train_in_processes
from lightning_memaudit.training.workers.pool import WorkerPool
from lightning_memaudit.training.workers.resources import (
    default_workers,
    processes_can_start,
    share_of_threads,
    using_threads,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.training.engines.choice import ChosenEngine, EngineName, Tuning
    from lightning_memaudit.training.run import Run

__all__ = ["Process"]


@dataclass(frozen=True, slots=True)
class Process:
    """Worker processes, each with its share of the threads; this process trains along.

    Args:
        n_workers: Processes in all, this one included; None takes one a core as far as memory allows (one a GPU where
            models train on GPUs).
        engine: How each of them trains: ``"trainer"``, ``"in-memory"`` or ``"ensemble"``; None takes the fastest that
            is right for the model.
        tuning: ``"full"``, or ``"off"``: neither compile a training step nor change how the C library keeps memory.
        thresholds: When faster engines are tried and taken.

    Raises:
        ArgumentError: ``n_workers`` is not a positive integer, or there is no such engine or tuning.
    """

    n_workers: int | None = None
    engine: EngineName | None = None
    tuning: Tuning = "full"
    thresholds: Thresholds = field(default_factory=Thresholds)
    name: ClassVar[str] = "process"

    def __post_init__(self) -> None:
        if self.n_workers is not None:
            as_positive_int(self.n_workers, name="n_workers")
        engines_to_try(self.engine)
        EngineOptions(self.tuning)

    def train(self, run: Run, model_ids: Sequence[int], engine: ChosenEngine) -> Iterator[int]:
        """Train ``model_ids``.

        Raises:
            ConfigurationError: The system is not POSIX, or other processes cannot reach the store.
        """
        if not model_ids:
            return
        if not processes_can_start():
            raise ConfigurationError(
                "executor='process': a POSIX system (Linux, macOS) is needed; take executor='ensemble' or 'sequential'"
            )
        check_reachable(run.store)
        n_workers = min(self.n_workers or default_workers(run.population), len(model_ids))
        options = EngineOptions(self.tuning, self.thresholds)
        with (
            using_threads(share_of_threads(n_workers)),
            WorkerPool.beside_this_process(n_workers, most_starts=self.thresholds.worker_starts) as pool,
        ):
            pool.start()
            decision = decide(run, model_ids, engine, options, allowed=engines_to_try(self.engine))
            yield from train_in_processes(run, model_ids, decision, engine, pool)
