"""Every threshold and level by which reports and gates speak, each in one place."""

from __future__ import annotations

from typing import Final, Literal

__all__ = [
    "FITTED_SHARE",
    "INFLUENTIAL",
    "LEVEL",
    "MEMORIZED",
    "NOT_FITTED_BELOW",
    "PARTLY_FITTED_SHARE",
    "POWER",
    "PRACTICAL_FACTOR",
    "FitStatus",
    "fit_status",
]

#: Two-sided level of the intervals that a report shows.
LEVEL: Final = 0.95
#: Probability with which an interval is to decide, where the number of examples or models that it takes is named.
POWER: Final = 0.8
#: Score from which on an example counts as memorized (Feldman and Zhang 2020).
MEMORIZED: Final = 0.25
#: Influence from which on a pair counts as one of high influence (Feldman and Zhang 2020).
INFLUENTIAL: Final = 0.15
#: An example is not fitted where models that trained on it have it right less often than this.
NOT_FITTED_BELOW: Final = 0.5
#: Up to this share of examples that are not fitted, a population or a group is fitted; up to the second partly.
FITTED_SHARE: Final = 0.01
PARTLY_FITTED_SHARE: Final = 0.2
#: Times as many examples and models that somebody may still be told to get.
PRACTICAL_FACTOR: Final = 100.0

FitStatus = Literal["fitted", "partly fitted", "not fitted"]


def fit_status(share_not_fitted: float) -> FitStatus:
    """How well models fit what they trained on.

    Args:
        share_not_fitted: Share of the examples that are not fitted; NaN where none is known.

    Example:
        >>> fit_status(0.0), fit_status(0.2), fit_status(float("nan"))
        ('fitted', 'partly fitted', 'not fitted')
    """
    if share_not_fitted <= FITTED_SHARE:
        return "fitted"
    return "partly fitted" if share_not_fitted <= PARTLY_FITTED_SHARE else "not fitted"
