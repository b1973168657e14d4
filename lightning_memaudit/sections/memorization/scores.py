"""Memorization scores of a store, with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.memorization import memorization_interval, memorization_score

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from lightning_memaudit.functional.memorization import IntervalMethod, MemorizationScore
    from lightning_memaudit.outcomes.store import Outcomes, OutcomeStore

__all__ = ["LEVEL", "interval_of", "mean_of_known", "scored"]

LEVEL = 0.95


def scored(
    store: OutcomeStore,
) -> tuple[Outcomes, MemorizationScore, npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Outcomes on the training examples, scores with the ends of their intervals, and the level of these.

    Raises:
        MissingDataError: There are fewer than two baseline models.
    """
    ids = store.model_ids()
    if len(ids) < 2:
        raise MissingDataError(
            f"store={store.url!r} has {len(ids)} baseline models, and memorization needs at least 2; train more"
        )
    outcomes, stopping = store.load(model_ids=ids, fields=("correct", "prediction")), store.stopping()
    level = LEVEL if stopping is None else float(stopping["level"])
    scores = memorization_score(outcomes.correct, outcomes.mask)
    low, high = memorization_interval(outcomes.correct, outcomes.mask, level, interval_of(stopping))
    return outcomes, scores, low, high, level


def interval_of(stopping: Mapping[str, Any] | None) -> IntervalMethod:
    """The interval of a score: one that allows for looks where models were added until it was narrow enough."""
    return "agresti-caffo" if stopping is None else "agresti-caffo-level"


def mean_of_known(values: npt.NDArray[np.float64]) -> float:
    """The mean of the values that are not NaN; NaN where there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
