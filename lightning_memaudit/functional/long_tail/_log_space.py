"""Logarithms of beta functions, binomial coefficients and sums that keep their digits at arguments up to 1e10."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from lightning_memaudit.functional.checks import FloatArray

__all__ = ["log_beta", "log_binomial", "log_sum_exp"]

# Coefficients of Stirling's series, the last first: at y = 10 the term left out is below 1e-15.
_STIRLING = (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)


def log_beta(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Logarithm of the beta function B(x, y).

    ``scipy.special.betaln`` subtracts log Γ of about 2e9 at arguments of 1e8, which leaves 7 digits. Here the smaller
    argument takes log Γ and the difference of the other two takes Stirling's series, so that nothing large cancels.

    Args:
        x: Positive numbers, any shape.
        y: Positive numbers, broadcast against ``x``.

    Returns:
        log B(x, y), float64.

    Example:
        >>> print(f"{log_beta(2, 3):.6f} {log_beta(1, 1e8):.6f}")
        -2.484907 -18.420681
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    a, b = np.minimum(first, second), np.maximum(first, second)
    large = np.maximum(b, 10.0)
    difference = -(large - 0.5) * np.log1p(a / large) - a * np.log(a + large) + a + _rest(large) - _rest(a + large)
    direct = special.gammaln(b) - special.gammaln(a + b)
    return np.asarray(special.gammaln(a) + np.where(b >= 10, difference, direct))


def log_binomial(n: ArrayLike, k: ArrayLike) -> FloatArray:
    """Logarithm of the binomial coefficient C(n, k).

    Args:
        n: Whole numbers of at least 0, any shape.
        k: Whole numbers in [0, n], broadcast against ``n``.

    Returns:
        log C(n, k), float64.

    Example:
        >>> print(f"{log_binomial(5, 2):.6f}")
        2.302585
    """
    trials, chosen = np.asarray(n, dtype=np.float64), np.asarray(k, dtype=np.float64)
    return np.asarray(-np.log1p(trials) - log_beta(chosen + 1, trials - chosen + 1))


def log_sum_exp(terms: FloatArray) -> float:
    """Logarithm of the sum of exponentials; −∞ for no term or for terms that are all −∞.

    Args:
        terms: Logarithms [K]; overwritten, since they may fill most of the memory.

    Returns:
        log Σ exp(terms).

    Example:
        >>> print(f"{log_sum_exp(np.log([1.0, 3.0])):.6f}")  # log 4
        1.386294
    """
    peak = float(terms.max(initial=-np.inf))
    if peak == -np.inf:
        return peak
    terms -= peak
    return peak + float(np.log(np.exp(terms, out=terms).sum()))


def _rest(y: FloatArray) -> FloatArray:
    """What Stirling's formula leaves of log Γ(y), for y ≥ 10."""
    return np.asarray(np.polyval(_STIRLING, 1 / y**2) / y)
