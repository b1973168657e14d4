"""The most memorized examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from lightning_memaudit.functional.memorization import MemorizationScore
    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.outcomes.store import Outcomes

__all__ = ["top_examples"]

_TOP = 20


def top_examples(
    scores: MemorizationScore,
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    outcomes: Outcomes,
    examples: Examples,
) -> list[dict[str, Any]]:
    """The most memorized examples, by the lower end of their interval."""
    order = np.lexsort(
        (np.arange(len(scores.score)), -np.nan_to_num(low, nan=-2), -np.nan_to_num(scores.score, nan=-2))
    )
    rows = [int(i) for i in order[:_TOP] if not np.isnan(scores.score[i])]
    return [
        {
            "index": i,
            "score": float(scores.score[i]),
            "low": float(low[i]),
            "high": float(high[i]),
            "in_accuracy": float(scores.in_accuracy[i]),
            "out_accuracy": float(scores.out_accuracy[i]),
            "n_in": int(scores.n_in[i]),
            "n_out": int(scores.n_out[i]),
            "label": None if outcomes.labels is None else int(outcomes.labels[i]),
            "out_prediction": _most_common(outcomes.prediction[~outcomes.mask[:, i], i]),
            "groups": {name: group.names[group.codes[i]] for name, group in examples.groups.items()},
        }
        for i in rows
    ]


def _most_common(predictions: npt.NDArray[np.int32]) -> int | None:
    valid = predictions[predictions >= 0]
    return int(np.bincount(valid).argmax()) if len(valid) else None
