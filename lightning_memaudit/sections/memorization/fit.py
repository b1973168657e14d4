"""How well models fit what they trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lightning_memaudit.sections.memorization.scores import mean_of_known

if TYPE_CHECKING:
    from lightning_memaudit.functional.memorization import MemorizationScore
    from lightning_memaudit.outcomes.store import Outcomes, OutcomeStore

__all__ = ["NOT_FITTED_BELOW", "describe_fit", "n_diverged"]

NOT_FITTED_BELOW = 0.5  # an example that models get wrong more often than not although they trained on it
_FITTED_SHARE, _PARTLY_FITTED_SHARE = 0.01, 0.2

FitStatus = Literal["fitted", "partly fitted", "not fitted"]


def describe_fit(scores: MemorizationScore) -> dict[str, Any]:
    """Accuracy on examples trained on, and how many are not fitted although they were."""
    known = scores.in_accuracy[~np.isnan(scores.in_accuracy)]
    n_not_fitted = int((known < NOT_FITTED_BELOW).sum())
    share = n_not_fitted / len(known) if len(known) else float("nan")
    status: FitStatus = "not fitted"
    if share <= _FITTED_SHARE:
        status = "fitted"
    elif share <= _PARTLY_FITTED_SHARE:
        status = "partly fitted"
    return {
        "status": status,
        "in_accuracy": mean_of_known(known),
        "in_accuracy_quantiles": {str(q): float(np.quantile(known, q)) for q in (0.01, 0.05, 0.25)}
        if len(known)
        else {},
        "not_fitted_below": NOT_FITTED_BELOW,
        "n_not_fitted": n_not_fitted,
        "share_not_fitted": share,
    }


def n_diverged(store: OutcomeStore, outcomes: Outcomes) -> int:
    """Models that are right nowhere because their output is not finite."""
    wrong = outcomes.model_ids[~outcomes.correct.any(axis=1)].tolist()
    if not wrong:
        return 0
    return int(np.isnan(store.load(model_ids=wrong, fields=("margin",)).margin).all(axis=1).sum())
