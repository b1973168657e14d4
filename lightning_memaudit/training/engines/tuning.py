"""The one door to machinery that only makes training faster: memory kept from step to step, a compiled step.

Engines and executors come in here. What is behind, ``malloc`` and ``compilation``, is imported by nothing else, and is
left alone where an executor says ``tuning="off"``: models are the same, and take longer.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from lightning_memaudit.training.engines.choice import record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from lightning_memaudit.training.engines.choice import Decision, EngineChoice, Tuning
    from lightning_memaudit.training.run import Run

__all__ = ["compiled_if_asked", "compiled_where_it_pays", "memory_kept_for_steps"]


def memory_kept_for_steps(tuning: Tuning) -> AbstractContextManager[None]:
    """Let tensors of one step leave their memory to those of the next.

    Args:
        tuning: ``"off"`` changes nothing.
    """
    if tuning == "off":
        return nullcontext()
    from lightning_memaudit.training.engines.malloc import freed_memory_kept

    return freed_memory_kept()


def compiled_where_it_pays(run: Run, model_ids: Sequence[int], decision: Decision, *, n_workers: int = 1) -> Decision:
    """The decision with its step compiled, where that is likely to gain, does gain, and gives the same weights.

    Args:
        run: Of the models; in its store the choice is kept.
        model_ids: The models to train.
        decision: How they would be trained; it is returned where the step is not compiled.
        n_workers: How many processes share the models. What one of them compiles the others find in the cache.
    """
    choice, memo = decision.choice, decision.memo
    if decision.options.tuning == "off" or choice.engine != "ensemble" or choice.compiled or memo.compiling_was_tried:
        return decision
    from lightning_memaudit.training.engines.compilation import may_pay, with_compiled_step

    if not may_pay(decision, len(model_ids), n_workers=n_workers):
        return decision
    better_by = decision.options.thresholds.compiled_gain
    found = with_compiled_step(run, model_ids[: choice.chunk_size], decision, better_by=better_by)
    record(run, found.choice.to_dict())
    return found


def compiled_if_asked(run: Run, model_ids: Sequence[int], decision: Decision, choice: EngineChoice) -> Decision:
    """The decision as another process made it: compiled, where that can be done in this process too.

    Args:
        run: Of the models.
        model_ids: The models that are trained next.
        decision: How they would be trained in this process.
        choice: How they are to be trained.
    """
    asked = choice.compiled and not (decision.choice.compiled or decision.memo.compiling_was_tried)
    if not asked or len(model_ids) < choice.chunk_size:
        return decision
    from lightning_memaudit.training.engines.compilation import with_compiled_step

    found = with_compiled_step(run, model_ids[: choice.chunk_size], decision, better_by=0.0)
    return replace(found, choice=choice) if found.choice.compiled else found
