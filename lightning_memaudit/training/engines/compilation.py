"""Compiles the training step of many models at once, where the models that remain repay it."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.fx import GraphModule

from lightning_memaudit.compat.torch import compiler_cache
from lightning_memaudit.data.randomness import preserved_randomness
from lightning_memaudit.training.engines.choice import Decision, record
from lightning_memaudit.training.engines.ensemble.chunk import train_chunk
from lightning_memaudit.training.engines.ensemble.gradients import Traces
from lightning_memaudit.training.engines.equivalence import first_line, same_chunks
from lightning_memaudit.training.engines.malloc import freed_memory_kept
from lightning_memaudit.training.engines.support import NotHonoured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.engines.choice import Choice
    from lightning_memaudit.training.engines.ensemble.chunk import TrainedChunk
    from lightning_memaudit.training.engines.ensemble.loop import Known
    from lightning_memaudit.training.engines.in_memory.data import InMemoryData
    from lightning_memaudit.training.task import Population

__all__ = ["compiled_if_asked", "compiled_where_it_pays"]

_log = logging.getLogger(__name__)
_TIMED_STEPS = 18
_GAINS = 1.8  # about, where it gains anything
_COSTS = 25.0  # seconds of one process, when nothing is in the compiler's cache
_COSTS_AGAIN = 5.0  # seconds, when everything is
_BETTER_BY = 1.1
_AT_ONCE = 32  # models; more leave the cache of a core, and calls take no time that they would save


def compiled_where_it_pays(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    store: OutcomeStore,
    decision: Decision,
    *,
    n_processes: int = 1,
) -> Decision:
    """The decision with its step compiled, where that is likely to gain, does gain, and gives the same weights.

    Args:
        population: The prepared recipe, which keeps the decision.
        plan: The subset plan.
        model_ids: The models to train.
        store: Where the choice is kept.
        decision: How they would be trained; it is returned where the step is not compiled.
        n_processes: How many processes share the work. What one of them compiles the others find in the cache.
    """
    choice, known = decision.choice, decision.known
    if choice.engine != "ensemble" or choice.compiled or known.compiling_was_tried:
        return decision
    if known.inspection is None or not known.inspection.steady:
        return decision
    gains = (choice.seconds_per_model or 0.0) * len(model_ids) * (1 - 1 / _GAINS) - _COSTS_AGAIN * (n_processes - 1)
    if gains < _COSTS_AGAIN or (gains < _COSTS and not _compiled_before(decision)):
        return decision
    population.decision = _tried(population, plan, model_ids[: choice.chunk_size], decision, better_by=_BETTER_BY)
    record(population, store, population.decision.choice.to_dict())
    return population.decision


def compiled_if_asked(
    population: Population, plan: SubsetPlan, model_ids: Sequence[int], decision: Decision, choice: Choice
) -> Decision:
    """The decision as another process made it: compiled, where that can be done in this process too.

    Args:
        population: The prepared recipe.
        plan: The subset plan.
        model_ids: The models that are trained next.
        decision: How they would be trained in this process.
        choice: How they are to be trained.
    """
    asked = choice.compiled and not (decision.choice.compiled or decision.known.compiling_was_tried)
    if not asked or len(model_ids) < choice.chunk_size:
        return decision
    found = _tried(population, plan, model_ids[: choice.chunk_size], decision, better_by=0.0)
    return replace(found, choice=choice) if found.choice.compiled else found


def _tried(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    decision: Decision,
    *,
    better_by: float,
) -> Decision:
    """The decision with its step compiled, if that is faster by ``better_by`` and gives the same weights."""
    decision.known.compiling_was_tried = True
    try:
        with preserved_randomness(), freed_memory_kept():
            plain = _trained(population, plan, model_ids, decision.data, decision.known)
            known = replace(decision.known, traces=Traces(), compiled_size=min(len(model_ids), _AT_ONCE))
            chunk = _trained(population, plan, model_ids[: known.compiled_size], decision.data, known)
        same_chunks(plain, chunk)
    except Exception as error:  # no compiler on this machine, an operator that it cannot do, other weights, ...
        _log.info("the training step is not compiled", exc_info=error)
        return _not(decision, f"not compiled: {error if isinstance(error, NotHonoured) else first_line(error)}")
    choice, size = decision.choice, len(chunk.model_ids)
    after = chunk.seconds_per_step / size * 1e3
    times = choice.milliseconds_per_step | {f"ensemble-{size}-compiled": after}
    gain = plain.seconds_per_step / len(plain.model_ids) * 1e3 / after
    if gain < better_by:
        return _not(
            replace(decision, choice=replace(choice, milliseconds_per_step=times)), "compiled it gains too little"
        )
    if note := _note(decision):
        note.touch()
    faster = replace(
        choice,
        chunk_size=size,
        compiled=True,
        milliseconds_per_step=times,
        reason=f"{choice.reason}, and compiled {gain:.1f} times as fast again",
        seconds_per_model=(choice.seconds_per_model or 0.0) / gain,
    )
    return Decision(faster, decision.data, known)


def _trained(
    population: Population, plan: SubsetPlan, model_ids: Sequence[int], data: InMemoryData | None, known: Known
) -> TrainedChunk:
    assert data is not None  # noqa: S101 - an ensemble has them
    return train_chunk(population, plan, model_ids, data, known, n_steps=_TIMED_STEPS)


def _compiled_before(decision: Decision) -> bool:
    note = _note(decision)
    return note is not None and note.exists()


def _note(decision: Decision) -> Path | None:
    """A file in the compiler's cache that says that this step was compiled."""
    size = min(decision.choice.chunk_size, _AT_ONCE)
    traces = {shapes[0]: step for shapes, step in decision.known.traces.steps.items() if shapes[0][0] == size}
    step = traces[max(traces)] if traces else None  # of full batches
    cache = compiler_cache()
    if cache is None or not isinstance(step, GraphModule):
        return None
    return cache / f"memaudit-{hashlib.sha256(f'{torch.__version__} {step.code}'.encode()).hexdigest()}"


def _not(decision: Decision, why: str) -> Decision:
    return replace(decision, choice=replace(decision.choice, reason=f"{decision.choice.reason}; {why}"))
