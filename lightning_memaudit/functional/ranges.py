"""Checks of the numbers that the long-tail theory takes: shares, sample sizes, counts of one point."""

from __future__ import annotations

import math

import numpy as np

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import Array, IntArray, as_array, as_positive_int

__all__ = ["MOST_SAMPLES", "as_ell", "as_number", "as_samples"]

MOST_SAMPLES = 10**10


def as_number(value: float, *, name: str, least: float = 0.0, most: float = math.inf) -> float:
    """Check that a scalar lies in a closed range.

    Args:
        value: A number; infinite only where ``most`` is.
        name: Name of the argument, for the message.
        least: Smallest value allowed.
        most: Largest value allowed.

    Returns:
        The value as a float.

    Raises:
        ArgumentError: It is no number, NaN or out of range.

    Example:
        >>> as_number(1, name="gamma", most=1.0)
        1.0
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)
    if not number or not least <= value <= most:
        limits = f"at least {least:g}" if math.isinf(most) else f"in [{least:g}, {most:g}]"
        raise ArgumentError(f"{name} must be a number {limits}, got {value!r}; correct it.")
    return float(value)


def as_samples(n_samples: int, *, minimum: int = 1) -> int:
    """Check a number of samples n.

    Args:
        n_samples: n.
        minimum: Smallest n allowed.

    Returns:
        n as an int.

    Raises:
        ArgumentError: Not a whole number from ``minimum`` to 1e10, up to which the sums keep their digits.

    Example:
        >>> as_samples(50_000)
        50000
    """
    samples = as_positive_int(n_samples, name="n_samples", minimum=minimum)
    if samples > MOST_SAMPLES:
        raise ArgumentError(f"n_samples must be at most 1e10, got {n_samples!r}; beyond it the sums lose their digits.")
    return samples


def as_ell(ell: Array, *, n_samples: int) -> IntArray:
    """Check how often a point was seen.

    Args:
        ell: ℓ, whole numbers in [0, n], any shape.
        n_samples: n.

    Returns:
        ℓ as int64.

    Raises:
        ArgumentError: A value is not a whole number or lies outside [0, n].

    Example:
        >>> as_ell([0, 1], n_samples=10)
        array([0, 1])
    """
    counts = as_array(ell, name="ell", dtype=None)
    wrong = ~((counts >= 0) & (counts <= n_samples) & (counts == np.floor(counts)))
    if wrong.any():
        raise ArgumentError(
            f"ell must hold whole numbers in [0, n_samples = {n_samples}], got {counts[wrong][0]}; no point can be"
            " seen another number of times."
        )
    return counts.astype(np.int64)
