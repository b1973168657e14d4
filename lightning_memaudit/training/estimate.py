"""What an audit will take, from a few timed steps."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from lightning_memaudit.callbacks.passive import StepTimer
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.training.probe import probe
from lightning_memaudit.training.task import first_model, train_model

if TYPE_CHECKING:
    from lightning_memaudit.training.run import Run

__all__ = ["Estimate", "estimate"]

_STEPS = 20
_BYTES_PER_EXAMPLE = 4 + 4 + 1 + 1 / 8  # margin, loss, prediction, correct
_OVERHEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an audit will take.

    Attributes:
        n_models: Models asked for.
        n_missing: Models that the store lacks.
        n_examples: Training examples.
        seconds_per_model: Time to train and score one.
        seconds: Time for the missing ones.
        bytes_on_disk: Size of all shards.
        basis: What the time rests on.
    """

    n_models: int
    n_missing: int
    n_examples: int
    seconds_per_model: float
    seconds: float
    bytes_on_disk: int
    basis: str


def estimate(run: Run, n_models: int) -> Estimate:
    """Time and disk that ``n_models`` will take; nothing is written to the store.

    Args:
        run: Of the models; finished ones in its store give their true time.
        n_models: Models asked for.

    Raises:
        MismatchError: The store belongs to something else.
    """
    stored = []
    if run.store.exists:
        probe(replace(run, notes=()))
        stored = run.store.model_ids()
    examples = run.population.examples(run.plan.units)
    n_scored = sum(known.n_examples for known in examples.values())
    n_missing = n_models - sum(k < n_models for k in stored)
    if stored:
        per_model = float(median(run.store.load(model_ids=stored[:20], fields=()).wall_seconds))
        basis = f"{len(stored)} models that the store holds"
    else:
        per_model, basis = _timed(run)
    return Estimate(
        n_models,
        n_missing,
        run.plan.n_examples,
        per_model,
        per_model * n_missing,
        int(n_models * (n_scored * _BYTES_PER_EXAMPLE + _OVERHEAD_BYTES)),
        basis,
    )


def _timed(run: Run) -> tuple[float, str]:
    scratch = OutcomeStore("memory://memaudit-estimate")
    scratch.storage.clear()
    try:
        run = replace(run, store=scratch, notes=())
        run = replace(run, probe=probe(run))
        timer = StepTimer(_STEPS)
        started = time.perf_counter()
        train_model(run, first_model(run.plan), callbacks=[timer])
        total = time.perf_counter() - started
    finally:
        scratch.storage.clear()
    n_batches = run.probe.length.batches
    gaps = [after - before for before, after in itertools.pairwise(timer.times)]
    per_batch = median(gaps) if gaps else 0.0
    if n_batches is None:
        return (
            total,
            f"{len(timer.times)} training batches, timed; training has no end of its own, so this is a lower bound",
        )
    rest = per_batch * max(n_batches - len(timer.times), 0)
    return total + rest, f"{len(timer.times)} of {n_batches} training batches, timed, and one scoring pass"
