"""Calibration by group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_memaudit.functional.checks import (
    Array,
    FloatArray,
    IntArray,
    argument_error,
    as_array,
    as_positive_int,
    divide,
    element_error,
)
from lightning_memaudit.functional.intervals import wilson
from lightning_memaudit.functional.subgroups import as_groups


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of one model, one entry a group; NaN for a group without examples.

    Attributes:
        group: Group codes 0 to G − 1, int64[G].
        n: Number of examples, int64[G].
        confidence: Mean confidence, float64[G].
        accuracy: Accuracy.
        gap: ``confidence - accuracy``; positive where the model is overconfident. Free of bins and of their bias.
        gap_low: Lower end of its interval, the confidences being taken as given.
        gap_high: Upper end.
        ece: Expected calibration error.
        ece_if_calibrated: What a perfectly calibrated model would show on average: never 0, and larger in small groups.
    """

    group: IntArray
    n: IntArray
    confidence: FloatArray
    accuracy: FloatArray
    gap: FloatArray
    gap_low: FloatArray
    gap_high: FloatArray
    ece: FloatArray
    ece_if_calibrated: FloatArray


def calibration_by_group(
    confidence: Array, correct: Array, groups: Array, *, n_groups: int, n_bins: int = 15, level: float = 0.95
) -> Calibration:
    """Calibration by group: signed gap, and expected calibration error (Guo et al. 2017, equation 3).

    ``ECE = sum_b n_b / n |acc_b - conf_b|`` over bins of equal width. It is biased upward, the more so the smaller the
    group, so compare groups by their excess over ``ece_if_calibrated``, or by the gap.

    Args:
        confidence: Probability that the model gives its own prediction [n], in [0, 1].
        correct: Whether that prediction is right [n], 0 or 1.
        groups: Group of each example [n], in [0, n_groups).
        n_groups: G.
        n_bins: Bins of [0, 1].
        level: Two-sided confidence level of the gap.

    Returns:
        One entry a group.

    Raises:
        ArgumentError: Values out of range (NaN too), lengths that differ, or malformed groups.

    Example:
        >>> found = calibration_by_group([0.9, 0.9, 0.6], [1, 0, 1], [0, 0, 1], n_groups=2)
        >>> found.gap, found.ece
        (array([ 0.4, -0.4]), array([0.4, 0.4]))
    """
    score, right = as_array(confidence, name="confidence", ndim=1), as_array(correct, name="correct", ndim=1)
    outside = ~((score >= 0) & (score <= 1))
    if outside.any():
        raise element_error("confidence", score, outside, "probabilities in [0, 1] are needed")
    if len(right) != len(score) or not np.isin(right, (0.0, 1.0)).all():
        raise argument_error("correct", right, f"{len(score)} values of 0 or 1 are needed")
    codes, total = as_groups(groups, size=len(score), n_groups=n_groups)
    bins = as_positive_int(n_bins, name="n_bins")
    cell = codes * bins + np.minimum((score * bins).astype(np.int64), bins - 1)

    def by_cell(values: FloatArray) -> FloatArray:
        flat = np.bincount(cell, weights=values, minlength=total * bins)
        return np.asarray(flat, dtype=np.float64).reshape(total, bins)

    n = np.bincount(codes, minlength=total)
    size = n.astype(np.float64)
    hits, sums = by_cell(right), by_cell(score)
    value, mean = divide(hits.sum(axis=1), size), divide(sums.sum(axis=1), size)
    low, high = wilson(np.round(hits.sum(axis=1)), n, level=level)
    # The mean absolute value of a normal variable is sqrt(2 / π) of its standard deviation.
    chance = np.sqrt(2 / np.pi * by_cell(score * (1 - score))).sum(axis=1)
    return Calibration(
        group=np.arange(total),
        n=n,
        confidence=mean,
        accuracy=value,
        gap=mean - value,
        gap_low=mean - high,
        gap_high=mean - low,
        ece=divide(np.abs(hits - sums).sum(axis=1), size),
        ece_if_calibrated=divide(chance, size),
    )
