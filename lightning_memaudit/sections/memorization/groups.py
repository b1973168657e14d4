"""Memorization of groups of training examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.memorization import (
    grouped_memorization,
    prevalence_bounds,
)
from lightning_memaudit.record.estimates import MEAN, PREVALENCE
from lightning_memaudit.record.levels import LEVEL, MEMORIZED, NOT_FITTED_BELOW

if TYPE_CHECKING:
    import numpy.typing as npt

    from lightning_memaudit.functional.memorization import MemorizationScore
    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.record import ArmOutcomes

__all__ = ["class_rows", "group_rows"]


def group_rows(
    outcomes: ArmOutcomes,
    codes: npt.NDArray[np.int64],
    names: list[str],
    scores: MemorizationScore,
    level: float,
    *,
    threshold: float = MEMORIZED,
) -> list[dict[str, Any]]:
    """Memorization and fit of each group."""
    grouped = grouped_memorization(
        outcomes.correct, outcomes.mask, codes, n_groups=len(names), level=level, blocks=outcomes.blocks
    )
    counts = prevalence_bounds(
        outcomes.correct,
        outcomes.mask,
        codes,
        n_groups=len(names),
        threshold=threshold,
        spent=min((1 - level) / (1 - LEVEL), 1.0),
    )
    rows = []
    for g, name in enumerate(names):
        members = scores.score[codes == g]
        known = members[~np.isnan(members)]
        fitted = scores.in_accuracy[codes == g]
        rows.append(
            {
                "group": name,
                "n": int(grouped.n[g]),
                "n_estimable": int(grouped.n_estimable[g]),
                "mean_score": float(grouped.score[g]),
                "low": float(grouped.low[g]),
                "high": float(grouped.high[g]),
                "n_memorized": int((known >= threshold - 1e-12).sum()),
                "in_accuracy": float(grouped.in_accuracy[g]),
                "out_accuracy": float(grouped.out_accuracy[g]),
                "n_not_fitted": int((fitted < NOT_FITTED_BELOW).sum()),
                "statistics": {
                    "mean": MEAN.to_row(grouped.mean, g),
                    "prevalence": PREVALENCE.to_row(counts, g),
                },
            }
        )
    return rows


def class_rows(
    outcomes: ArmOutcomes, examples: Examples, scores: MemorizationScore, level: float, threshold: float
) -> list[dict[str, Any]]:
    """Memorization and fit of each class; none where labels are no class numbers."""
    if examples.labels is None or bool((examples.labels < 0).all()):
        return []
    values, codes = np.unique(examples.labels, return_inverse=True)
    return group_rows(outcomes, codes, [str(value) for value in values], scores, level, threshold=threshold)
