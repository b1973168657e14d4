"""The most memorized examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.outcomes.arms import BASELINE

if TYPE_CHECKING:
    import numpy.typing as npt

    from lightning_memaudit.record import Record
    from lightning_memaudit.sections.memorization.scores import Scored

__all__ = ["top_examples"]

_TOP = 20


def top_examples(record: Record, known: Scored) -> list[dict[str, Any]]:
    """The most memorized examples, by the lower end of their interval."""
    scores, low, high, labels = known.scores, known.low, known.high, known.outcomes.labels
    groups = record.examples("train").groups
    order = np.lexsort(
        (np.arange(len(scores.score)), -np.nan_to_num(low, nan=-2), -np.nan_to_num(scores.score, nan=-2))
    )
    rows = order[:_TOP][~np.isnan(scores.score[order[:_TOP]])]
    predictions = record.arm(BASELINE).values("train", "prediction", columns=rows)
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
            "label": None if labels is None else int(labels[i]),
            "out_prediction": _most_common(predictions[~known.outcomes.mask[:, i], place]),
            "groups": {name: group.names[group.codes[i]] for name, group in groups.items()},
        }
        for place, i in enumerate(rows.tolist())
    ]


def _most_common(predictions: npt.NDArray[np.int32]) -> int | None:
    valid = predictions[predictions >= 0]
    return int(np.bincount(valid).argmax()) if len(valid) else None
