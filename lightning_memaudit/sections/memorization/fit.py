"""How well models fit what they trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.record.levels import NOT_FITTED_BELOW, fit_status
from lightning_memaudit.sections.memorization.scores import mean_of_known

if TYPE_CHECKING:
    from lightning_memaudit.functional.memorization import MemorizationScore
    from lightning_memaudit.record import ArmOutcomes, Record

__all__ = ["describe_fit", "n_diverged"]


def describe_fit(scores: MemorizationScore) -> dict[str, Any]:
    """Accuracy on examples trained on, and how many are not fitted although they were."""
    known = scores.in_accuracy[~np.isnan(scores.in_accuracy)]
    n_not_fitted = int((known < NOT_FITTED_BELOW).sum())
    share = n_not_fitted / len(known) if len(known) else float("nan")
    return {
        "status": fit_status(share),
        "in_accuracy": mean_of_known(known),
        "in_accuracy_quantiles": {str(q): float(np.quantile(known, q)) for q in (0.01, 0.05, 0.25)}
        if len(known)
        else {},
        "not_fitted_below": NOT_FITTED_BELOW,
        "n_not_fitted": n_not_fitted,
        "share_not_fitted": share,
    }


def n_diverged(record: Record, outcomes: ArmOutcomes) -> int:
    """Models that are right nowhere because their output is not finite."""
    silent = ~record.arm(BASELINE).has_output("train")
    return int((silent & ~outcomes.correct.any(axis=1)).sum())
