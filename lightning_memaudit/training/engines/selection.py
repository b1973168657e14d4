"""Finds the fastest engine that is right for a recipe: measured on a few models and steps, with the reason."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from lightning_memaudit.data.randomness import preserved_randomness
from lightning_memaudit.data.rows import NotInMemoryError, available_memory
from lightning_memaudit.exceptions import UnsupportedDataError
from lightning_memaudit.training.engines.choice import ChosenEngine, Decision, EngineChoice, EngineOptions, record
from lightning_memaudit.training.engines.ensemble.chunk import train_chunk
from lightning_memaudit.training.engines.ensemble.loop import ChunkMemo
from lightning_memaudit.training.engines.equivalence import check_ensemble, check_in_memory, steps_to_compare
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.engines.in_memory.support import Unsupported
from lightning_memaudit.training.engines.tuning import memory_kept_for_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lightning_memaudit.data.rows import InMemoryData
    from lightning_memaudit.training.engines.choice import EngineName
    from lightning_memaudit.training.run import Run

__all__ = ["choose", "decide"]

_log = logging.getLogger(__name__)
_ASKED_FOR = "asked for"


def decide(
    run: Run,
    model_ids: Sequence[int],
    engine: ChosenEngine,
    options: EngineOptions,
    *,
    allowed: Sequence[EngineName],
    foresee: Callable[[float], None] | None = None,
) -> Decision:
    """``choose``, once for an arm, and on record in the store.

    Args:
        run: Of the models, with what its probe said; the next run on its store sticks to the choice.
        model_ids: The models to train.
        engine: Keeps the decision; what it holds stands.
        options: As for ``choose``.
        allowed: The engines to choose from.
        foresee: As for ``choose``.
    """
    if engine.decision is None:
        if run.population.recipe.made_from:
            choice = EngineChoice("trainer", reason="made from trained models")
            engine.decision = Decision(choice, options=options)
            return engine.decision
        earlier = run.store.manifest.execution
        allowed = [name for name in allowed if name == earlier.get("engine")] or allowed
        if len(allowed) > 1 and earlier.get("engine") == "trainer" and earlier["reason"] != _ASKED_FOR:
            choice = EngineChoice.from_dict(earlier)  # which a trial found to be the only way
            engine.decision = Decision(choice, options=options)
        else:
            with preserved_randomness():
                engine.decision = choose(run, model_ids, options, allowed=allowed, foresee=foresee)
        record(run, engine.decision.choice.to_dict())
    return engine.decision


def choose(
    run: Run,
    model_ids: Sequence[int],
    options: EngineOptions,
    *,
    allowed: Sequence[EngineName] = ("in-memory", "ensemble"),
    foresee: Callable[[float], None] | None = None,
) -> Decision:
    """Try the faster engines on a few models and take the fastest that gives the same weights.

    Args:
        run: Of the models, with what its probe said.
        model_ids: The models to train.
        options: When faster ways are tried and taken.
        allowed: The engines to choose from, where they are right for the recipe; the Trainer always is.
        foresee: Told how many seconds all models take one after the other, before several at once are tried.
    """
    if not {"in-memory", "ensemble"} & set(allowed):
        return Decision(EngineChoice("trainer", reason=_ASKED_FOR), options=options)
    length, thresholds = run.probe.length, options.thresholds
    n_steps, n_batches = steps_to_compare(length.batches_per_epoch), length.batches or 1
    try:
        data = read_into_memory(run.population)
        step = check_in_memory(run, model_ids[0], data, n_steps=n_steps)
    except (Unsupported, NotInMemoryError, UnsupportedDataError) as unsuited:
        reason = f"the faster loops do not go with {unsuited}"
        return Decision(EngineChoice("trainer", reason=reason), options=options)
    times = {"in-memory": step * 1e3}
    plain = EngineChoice("in-memory", 1, "the same weights as the Trainer", step * n_batches, times)

    def one_by_one(reason: str) -> Decision:
        return Decision(replace(plain, reason=reason), data, options=options)

    if "ensemble" not in allowed:
        return one_by_one(plain.reason)
    seconds = step * n_batches * len(model_ids)
    if "in-memory" in allowed and seconds < thresholds.try_ensemble:
        return one_by_one("too few models to gain by training several at once")
    if foresee is not None:
        foresee(seconds)
    memo = ChunkMemo()
    try:
        check_ensemble(run, model_ids[:2], data, n_steps=n_steps)
        with memory_kept_for_steps(options.tuning):
            found = _ensemble_times(run, model_ids, data, memo, options, step=step)
    except Unsupported as unsuited:
        return one_by_one(f"training several models at once does not go with {unsuited}")
    size = min(size for size, seconds in found.items() if seconds <= thresholds.as_good_as * min(found.values()))
    times = times | {f"ensemble-{size}": seconds * 1e3 for size, seconds in found.items()}
    if "in-memory" in allowed and found[size] * thresholds.ensemble_gain > step:
        slower = f"{size} models at once would take {found[size] / step:.2f} times as long"
        return Decision(replace(plain, reason=slower, milliseconds_per_step=times), data, options=options)
    reason = f"{step / found[size]:.1f} times as fast as one model after the other"
    choice = EngineChoice("ensemble", size, reason, found[size] * n_batches, times)
    return Decision(choice, data, memo, options)


def _ensemble_times(
    run: Run, model_ids: Sequence[int], data: InMemoryData, memo: ChunkMemo, options: EngineOptions, *, step: float
) -> dict[int, float]:
    """Seconds per step and model, by number of models at once; ``step`` is that of one model by itself.

    More are tried as long as memory allows, more at once gain, and the trial is a small part of all the steps.
    """
    thresholds, n_batches = options.thresholds, run.probe.length.batches or 1
    times: dict[int, float] = {}
    for size in thresholds.chunk_sizes:
        ids = list(model_ids[:size])
        if times and (len(ids) in times or memo.bytes_per_model * len(ids) > available_memory() / 4):
            break
        if len(times) > 1 and times[max(times)] * thresholds.ensemble_gain > times[min(times)]:
            break
        most = int(thresholds.trial_share * n_batches * len(model_ids) / len(ids))
        if times and most < thresholds.trial_steps:
            break
        expected = min(times.values(), default=step) * len(ids)
        n_steps = max(thresholds.trial_steps, min(most, round(thresholds.trial_seconds / expected)))
        try:
            chunk = train_chunk(run, ids, data, memo, n_steps=n_steps)
        except Unsupported:
            raise
        except Exception as error:  # such as too little memory for so many
            if times:
                _log.warning("not %d models at once: %s: %s", len(ids), type(error).__name__, error)
                break
            raise Unsupported(f"{len(ids)} models at once: {type(error).__name__}") from error
        times[len(ids)] = chunk.seconds_per_step / len(ids)
    return times
