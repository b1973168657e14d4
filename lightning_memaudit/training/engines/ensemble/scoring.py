"""Scores the models of a stack on every example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call, vmap

from lightning_memaudit.compat.torch import map_leaves
from lightning_memaudit.data.rows import InMemoryLoader, TensorRows
from lightning_memaudit.outcomes.scoring import Binary, Multiclass, ScoreColumns, Sequence, score_split
from lightning_memaudit.training.engines.ensemble.pooling import ChannelsLastPooling, fallbacks_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning.pytorch import LightningModule

    from lightning_memaudit.outcomes.scoring import ScoreFunction
    from lightning_memaudit.outcomes.shard import SplitScores
    from lightning_memaudit.training.engines.ensemble.stack import Stack

__all__ = ["asks_only_for_answers", "score_in_turn", "score_stack", "score_together"]

_OURS = (Multiclass, Binary, Sequence)
_VALUES_AT_ONCE = 500_000  # of the inputs; the activations of more take longer, those of fewer gain nothing


def score_stack(
    pl_module: LightningModule,
    stack: Stack,
    loaders: Mapping[str, Any],
    score_fn: ScoreFunction,
    *,
    values_at_once: int = _VALUES_AT_ONCE,
) -> list[dict[str, SplitScores]]:
    """What each model of a stack does on every example of every split.

    Args:
        pl_module: A module of the same architecture; what its own parameters are afterwards is not said.
        stack: The trained models.
        loaders: Goes through the examples, by split.
        score_fn: Scores one batch.
        values_at_once: As for ``score_together``.

    Returns:
        Scores by split, one mapping a model.
    """
    pl_module.eval()
    scores: list[dict[str, SplitScores]] = [{} for _ in range(len(stack))]
    for split, loader in loaders.items():
        in_memory = isinstance(loader, InMemoryLoader) and isinstance(loader.rows, TensorRows)
        if in_memory and asks_only_for_answers(score_fn):
            found = score_together(pl_module, stack, loader, score_fn, split, values_at_once=values_at_once)
        else:
            found = score_in_turn(pl_module, stack, loader, score_fn, split)
        for of_model, of_split in zip(scores, found, strict=True):
            of_model[split] = of_split
    return scores


def asks_only_for_answers(score_fn: ScoreFunction) -> bool:
    """Whether a score function asks a module for nothing but its answer to the inputs."""
    return type(score_fn) in _OURS


def score_together(
    pl_module: LightningModule,
    stack: Stack,
    loader: InMemoryLoader,
    score_fn: ScoreFunction,
    split: str,
    *,
    values_at_once: int = _VALUES_AT_ONCE,
) -> list[SplitScores]:
    """Scores on one split, from one pass of all models over each batch.

    Args:
        pl_module: A module of the same architecture.
        stack: The trained models.
        loader: Goes through the examples in memory.
        score_fn: Scores one batch.
        split: Its name, for errors.
        values_at_once: Numbers in the inputs of all models that a batch should not exceed, where it has more examples
            than the loader's own.
    """
    columns = [ScoreColumns(split) for _ in range(len(stack))]
    answer = _Answers(pl_module, stack)
    device = next(iter(stack.parameters.values())).device
    width = max(leaf[0].numel() for leaf in loader.rows.leaves)  # type: ignore[attr-defined]
    size = max(loader.batch_size, values_at_once // (width * len(stack)))
    with torch.no_grad(), fallbacks_allowed():
        for indices in torch.split(torch.arange(len(loader.rows)), size):
            batch = _to(device, loader.rows.batch(indices))
            answer.forget()
            for k, column in enumerate(columns):
                answer.model = k
                column.add(score_fn(answer, batch), len(indices))  # type: ignore[arg-type]
    return [column.finish(whole_numbers=not isinstance(score_fn, Sequence)) for column in columns]


def score_in_turn(
    pl_module: LightningModule, stack: Stack, loader: Any, score_fn: ScoreFunction, split: str
) -> list[SplitScores]:
    """Scores on one split, model by model."""
    device = next(iter(stack.parameters.values())).device
    own = dict(pl_module.to(device).named_parameters()) | dict(pl_module.named_buffers())
    found = []
    for k in range(len(stack)):
        with torch.no_grad():
            for name, tensor in stack.member(k).items():
                own[name].copy_(tensor)
        found.append(score_split(pl_module, loader, score_fn, transfer=lambda batch: _to(device, batch), split=split))
    return found


def _to(device: torch.device, batch: Any) -> Any:
    return map_leaves(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, batch)


class _Answers:
    """Stands for one model of a stack: what ``forward`` of all of them gives is computed once for each batch."""

    def __init__(self, pl_module: LightningModule, stack: Stack) -> None:
        self.model = 0
        self._outputs: Any = None
        tensors = {name: tensor.detach() for name, tensor in (stack.parameters | stack.buffers).items()}
        forward = vmap(lambda own, inputs: functional_call(pl_module, own, (inputs,)), in_dims=(0, None))
        self._forward: Callable[[Any], Any] = lambda inputs: forward(tensors, inputs)

    def forget(self) -> None:
        """Another batch comes."""
        self._outputs = None

    def __call__(self, inputs: Any) -> Any:
        if self._outputs is None:
            with ChannelsLastPooling():
                self._outputs = self._forward(inputs)
        return map_leaves(lambda output: output[self.model], self._outputs)
