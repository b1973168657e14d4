"""Trains a few models both ways for a few steps, before a fast way is trusted with all of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_memaudit.callbacks.passive import InternalCallback
from lightning_memaudit.data.randomness import preserved_randomness
from lightning_memaudit.data.rows import InMemoryLoader, TensorRows
from lightning_memaudit.exceptions import MemauditError
from lightning_memaudit.outcomes.scoring import find_score_function
from lightning_memaudit.training.engines.ensemble.chunk import train_chunk
from lightning_memaudit.training.engines.ensemble.inspection import without_dropout
from lightning_memaudit.training.engines.ensemble.loop import ChunkMemo
from lightning_memaudit.training.engines.ensemble.scoring import asks_only_for_answers, score_in_turn, score_together
from lightning_memaudit.training.engines.in_memory.loop import InMemoryLoop
from lightning_memaudit.training.engines.in_memory.support import StoppedEarly, Unsupported
from lightning_memaudit.training.task import fit, one_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lightning.pytorch import LightningModule, Trainer

    from lightning_memaudit.data.rows import InMemoryData
    from lightning_memaudit.training.engines.ensemble.chunk import TrainedChunk
    from lightning_memaudit.training.engines.ensemble.stack import Stack
    from lightning_memaudit.training.run import Run

__all__ = ["check_ensemble", "check_in_memory", "first_line", "same_chunks", "steps_to_compare"]

_TOLERANCE = 1e-5
_TIMES_ONE_ULP = 4.0  # what counts as the same on a recipe that itself magnifies rounding
_FEW_ROWS = 64

_Weights = dict[str, torch.Tensor]


def steps_to_compare(n_batches: int | None) -> int:
    """Steps that are trained both ways: past the end of an epoch where that is near, so that its turn is seen."""
    return n_batches + 3 if n_batches is not None and n_batches <= 30 else 12


def check_in_memory(run: Run, model_id: int, data: InMemoryData, *, n_steps: int) -> float:
    """Hold the loop in memory against Lightning's.

    Args:
        run: Of the model.
        model_id: The model that is trained both ways.
        data: The examples in memory.
        n_steps: Steps that are trained both ways.

    Returns:
        Seconds of the fastest step in memory, which was disturbed least.

    Raises:
        Unsupported: The weights are not the same, or the loop does not do what the recipe needs.
        TrainingError: The user's code failed in Lightning's own loop.
    """
    with one_model(model_id):
        reference = _trained(run, model_id, _StopAfter(n_steps))
    loop = InMemoryLoop(data.train, n_steps=n_steps)
    try:
        found = _trained(run, model_id, loop)
    except (Unsupported, MemauditError):
        raise
    except Exception as error:  # of code that counts on something in Lightning's loop
        raise Unsupported(first_line(error)) from error
    if (difference := _difference(reference, found)) > _TOLERANCE:
        raise Unsupported(f"weights that differ by {difference:.1e} from those of the Trainer after {n_steps} steps")
    return min(loop.step_seconds)


def check_ensemble(
    run: Run,
    model_ids: Sequence[int],
    data: InMemoryData,
    *,
    n_steps: int,
    times_one_ulp: float = _TIMES_ONE_ULP,
) -> None:
    """Hold models that are trained and scored at once against each of them by itself, dropout switched off.

    Args:
        run: Of the models.
        model_ids: The models that are trained both ways.
        data: The examples in memory.
        n_steps: Steps that are trained both ways.
        times_one_ulp: Weights may differ by so many times what one unit in the last place of the initial ones does.

    Raises:
        Unsupported: The weights or scores are not the same, or stacked models cannot be trained; the message says why.
    """
    calm = run.of_arm(model=partial(_without_dropout, run.population.recipe.model))
    memo = ChunkMemo()
    try:
        chunk = train_chunk(calm, model_ids, data, memo, n_steps=n_steps)
    except (Unsupported, MemauditError):
        raise
    except Exception as error:  # vmap refuses in many ways: control flow, .item(), operators without a rule
        raise Unsupported(first_line(error)) from error
    for k, model_id in enumerate(model_ids):
        reference = _trained(calm, model_id, InMemoryLoop(data.train, n_steps=n_steps))
        difference = _difference(reference, chunk.stack.member(k))
        if difference > _TOLERANCE:
            again = _trained(calm, model_id, InMemoryLoop(data.train, n_steps=n_steps))
            if _difference(reference, again):
                raise Unsupported(f"a module that gives other weights when it is trained again ({difference:.1e})")
            allowed = times_one_ulp * _one_ulp(calm, model_id, data, reference, n_steps)
            if not difference <= allowed:
                random = ", since it draws random numbers besides its dropout layers" if _random(memo) else ""
                raise Unsupported(f"weights that differ by {difference:.1e} after {n_steps} steps{random}")
    with preserved_randomness():
        _check_scores(calm, chunk.pl_module, chunk.stack, data)


def same_chunks(first: TrainedChunk, second: TrainedChunk) -> None:
    """Hold models that were trained at once in one way against the first of them, trained in another.

    Raises:
        Unsupported: Their weights are not the same.
    """
    for k in range(len(second.model_ids)):
        if (difference := _difference(first.stack.member(k), second.stack.member(k))) > _TOLERANCE:
            raise Unsupported(f"weights that differ by {difference:.1e}")


def _random(memo: ChunkMemo) -> bool:
    return memo.inspection is not None and memo.inspection.draws_random


def _without_dropout(make: Callable[[], LightningModule]) -> LightningModule:
    return without_dropout(make())


def _perturbed(make: Callable[[], LightningModule]) -> LightningModule:
    pl_module = make()
    with torch.no_grad():
        for parameter in pl_module.parameters():
            if parameter.is_floating_point():
                parameter.copy_(torch.nextafter(parameter, torch.full_like(parameter, torch.inf)))
    return pl_module


def _one_ulp(run: Run, model_id: int, data: InMemoryData, reference: _Weights, n_steps: int) -> float:
    """How far one unit in the last place of the initial weights carries."""
    nudged = run.of_arm(model=partial(_perturbed, run.population.recipe.model))
    return _difference(reference, _trained(nudged, model_id, InMemoryLoop(data.train, n_steps=n_steps)))


class _StopAfter(InternalCallback):
    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step >= self.n_steps:
            raise StoppedEarly


class _Witness(InternalCallback):
    """Keeps the weights with which a fit ends."""

    def __init__(self) -> None:
        self.weights: _Weights = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._keep(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(pl_module)

    def _keep(self, pl_module: LightningModule) -> None:
        tensors = dict(pl_module.named_parameters()) | dict(pl_module.named_buffers())
        self.weights = {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _trained(run: Run, model_id: int, loop: InternalCallback) -> _Weights:
    witness = _Witness()
    in_process = isinstance(loop, InMemoryLoop)
    with suppress(StoppedEarly):  # as it was asked to; a shorter training ends by itself
        fit(run, model_id, [witness, loop], validate=run.probe.validate, in_process=in_process)
    return witness.weights


def _difference(first: _Weights, second: _Weights) -> float:
    """Largest absolute difference of two sets of weights; NaN where a weight is NaN in one of them only."""
    largest = 0.0
    for name, tensor in first.items():
        a, b = tensor.double().cpu(), second[name].double().cpu()
        gap = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs())
        largest = max(largest, float(gap.max()) if gap.numel() else 0.0)
        if bool(gap.isnan().any()):
            return float("inf")
    return largest


def _check_scores(run: Run, pl_module: LightningModule, stack: Stack, data: InMemoryData) -> None:
    score_fn = find_score_function(run.population.recipe.score_fn)
    for split, loader in data.scoring.items():
        if not isinstance(loader, InMemoryLoader) or not isinstance(loader.rows, TensorRows):
            continue
        few = tuple(leaf[:_FEW_ROWS] for leaf in loader.rows.leaves)
        rows = replace(loader.rows, leaves=few)
        head = replace(loader, rows=rows, batch_size=min(loader.batch_size, _FEW_ROWS // 2))  # in turn; together: all
        if not asks_only_for_answers(score_fn):
            return
        pl_module.eval()
        try:
            together = score_together(pl_module, stack, head, score_fn, split)
        except MemauditError:
            raise
        except Exception as error:  # as in training
            raise Unsupported(f"scoring: {first_line(error)}") from error
        for a, b in zip(together, score_in_turn(pl_module, stack, head, score_fn, split), strict=True):
            if not np.allclose(a.margin, b.margin, rtol=1e-3, atol=1e-3, equal_nan=True):
                raise Unsupported(f"scores on {split!r} that differ when models are scored at once")


def first_line(error: Exception) -> str:
    """What an error is, short enough for a reason."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:160]}"
