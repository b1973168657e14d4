"""Memorization scores of a record, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.memorization import memorization_interval, memorization_score
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.record import Reads, Wanted
from lightning_memaudit.record.levels import LEVEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from lightning_memaudit.functional.memorization import IntervalMethod, MemorizationScore
    from lightning_memaudit.record import ArmOutcomes, Record

__all__ = ["Scored", "interval_of", "mean_of_known", "reads", "scored"]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Outcomes on the training examples, and what they say of each.

    Attributes:
        outcomes: Whether the baseline models are right.
        scores: The scores.
        low: Lower ends of their intervals, float64[n].
        high: Upper ends.
        level: Level of the intervals.
    """

    outcomes: ArmOutcomes
    scores: MemorizationScore
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    level: float


def reads(_: Record) -> Reads:
    """What the memorized examples are shown with."""
    return Reads(whole=(Wanted(BASELINE, "train", ("prediction",)),))


def scored(record: Record) -> Scored:
    """Outcomes on the training examples, and their scores, which are computed once.

    Raises:
        MissingDataError: There are fewer than two baseline models.
    """
    n_models = record.arm(BASELINE).n_models
    if n_models < 2:
        raise MissingDataError(
            f"store={record.url!r} has {n_models} baseline models, and memorization needs at least 2; train more"
        )
    outcomes, stopping = record.outcomes(), record.stopping
    level = LEVEL if stopping is None else float(stopping["level"])

    def computed() -> tuple[MemorizationScore, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        low, high = memorization_interval(outcomes.correct, outcomes.mask, level, interval_of(stopping))
        return memorization_score(outcomes.correct, outcomes.mask), low, high

    return Scored(outcomes, *record.once("memorization scores", computed), level)


def interval_of(stopping: Mapping[str, Any] | None) -> IntervalMethod:
    """The interval of a score: one that allows for looks where models were added until it was narrow enough."""
    return "agresti-caffo" if stopping is None else "agresti-caffo-level"


def mean_of_known(values: npt.NDArray[np.float64]) -> float:
    """The mean of the values that are not NaN; NaN where there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
