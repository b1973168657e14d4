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
from lightning_memaudit.training.engines.ensemble.chunk import train_chunk
from lightning_memaudit.training.engines.ensemble.gradients import Traces
from lightning_memaudit.training.engines.equivalence import first_line, same_chunks
from lightning_memaudit.training.engines.in_memory.support import Unsupported
from lightning_memaudit.training.engines.malloc import freed_memory_kept

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lightning_memaudit.training.engines.choice import Decision
    from lightning_memaudit.training.engines.ensemble.chunk import TrainedChunk
    from lightning_memaudit.training.engines.ensemble.loop import ChunkMemo
    from lightning_memaudit.training.run import Run

__all__ = ["may_pay", "with_compiled_step"]

_log = logging.getLogger(__name__)


def may_pay(decision: Decision, n_models: int, *, n_workers: int) -> bool:
    """Whether a compiled step is likely to gain what compiling takes.

    Args:
        decision: How models are trained at once.
        n_models: Models that remain.
        n_workers: How many processes share them.
    """
    inspection, thresholds = decision.memo.inspection, decision.options.thresholds
    if inspection is None or not inspection.steady:
        return False
    seconds = (decision.choice.seconds_per_model or 0.0) * n_models
    again = thresholds.compiling_again_seconds
    gains = seconds * (1 - 1 / thresholds.compiling_gain) - again * (n_workers - 1)
    return gains >= again and (gains >= thresholds.compiling_seconds or _compiled_before(decision))


def with_compiled_step(run: Run, model_ids: Sequence[int], decision: Decision, *, better_by: float) -> Decision:
    """The decision with its step compiled, if that is faster by a factor and gives the same weights.

    Args:
        run: Of the models.
        model_ids: The models of a full chunk.
        decision: How they are trained at once; its memo says from now on that this was tried.
        better_by: The factor.
    """
    decision.memo.compiling_was_tried = True
    most = decision.options.thresholds.compiled_models
    try:
        with preserved_randomness(), freed_memory_kept():
            plain = _trained(run, model_ids, decision, decision.memo)
            memo = replace(decision.memo, traces=Traces(), compiled_size=min(len(model_ids), most))
            chunk = _trained(run, model_ids[: memo.compiled_size], decision, memo)
        same_chunks(plain, chunk)
    except Exception as error:  # no compiler on this machine, an operator that it cannot do, other weights, ...
        _log.info("the training step is not compiled", exc_info=error)
        return _not(decision, f"not compiled: {error if isinstance(error, Unsupported) else first_line(error)}")
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
    return replace(decision, choice=faster, memo=memo)


def _trained(run: Run, model_ids: Sequence[int], decision: Decision, memo: ChunkMemo) -> TrainedChunk:
    assert decision.data is not None  # noqa: S101 - an ensemble has them
    return train_chunk(run, model_ids, decision.data, memo, n_steps=decision.options.thresholds.compiled_steps)


def _compiled_before(decision: Decision) -> bool:
    note = _note(decision)
    return note is not None and note.exists()


def _note(decision: Decision) -> Path | None:
    """A file in the compiler's cache that says that this step was compiled."""
    size = min(decision.choice.chunk_size, decision.options.thresholds.compiled_models)
    traces = {shapes[0]: step for shapes, step in decision.memo.traces.steps.items() if shapes[0][0] == size}
    step = traces[max(traces)] if traces else None  # of full batches
    cache = compiler_cache()
    if cache is None or not isinstance(step, GraphModule):
        return None
    return cache / f"memaudit-{hashlib.sha256(f'{torch.__version__} {step.code}'.encode()).hexdigest()}"


def _not(decision: Decision, why: str) -> Decision:
    return replace(decision, choice=replace(decision.choice, reason=f"{decision.choice.reason}; {why}"))
