"""What a population of models did on a split: the shards of an arm, stacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.shard import Shard

__all__ = ["Outcomes", "stack"]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What M models did on the n examples of a split.

    Attributes:
        model_ids: int64[M].
        mask: bool[M, n_train]: the training examples of each model, whatever the split.
        correct: bool[M, n], or float32 in [0, 1] for sequences.
        margin: float32[M, n]; with no columns when it was not asked for, as all that follow.
        loss: float32[M, n].
        prediction: int32[M, n].
        confidence: float32[M, n], the probability of the prediction; NaN where it is not on record.
        labels: int64[n], or None when the store has none.
        blocks: int64[M], models drawn together (paired design), or None.
        wall_seconds: float64[M].
        made_from: The arm of the trained model that each was made from; empty where it was trained itself.
    """

    model_ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    correct: npt.NDArray[Any]
    margin: npt.NDArray[np.float32]
    loss: npt.NDArray[np.float32]
    prediction: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None
    blocks: npt.NDArray[np.int64] | None
    wall_seconds: npt.NDArray[np.float64]
    made_from: tuple[str, ...] = ()


def stack(shards: Sequence[Shard], split: str, *, plan: SubsetPlan, labels: npt.NDArray[np.int64] | None) -> Outcomes:
    """The outcomes of several models on one split.

    Args:
        shards: One a model, in the order of the rows.
        split: Which split of them.
        plan: The plan of these models.
        labels: Labels of the split, where there are any.
    """
    ids = [shard.model_id for shard in shards]
    rows = [shard.splits[split] for shard in shards]
    return Outcomes(
        model_ids=np.array(ids, dtype=np.int64),
        mask=plan.masks(ids),
        correct=np.stack([row.correct for row in rows]),
        margin=np.stack([row.margin for row in rows]),
        loss=np.stack([row.loss for row in rows]),
        prediction=np.stack([row.prediction for row in rows]),
        confidence=np.stack([row.confidence for row in rows]),
        labels=labels,
        blocks=plan.blocks(ids),
        wall_seconds=np.array([shard.wall_seconds for shard in shards]),
        made_from=tuple(shard.made_from for shard in shards),
    )
