"""p-values by inverting one-sided bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from lightning_memaudit.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_memaudit.functional.checks import FloatArray

Tail = Literal["greater", "less"]
_TINY, _STEPS = 1e-300, 50


def one_sided_p_value(
    half_widths: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    estimate: FloatArray,
    margin: float,
    *,
    alternative: Tail = "greater",
) -> FloatArray:
    """The smallest one-sided error at which a bound excludes a margin, by bisection on its logarithm.

    Args:
        half_widths: Half-widths down and up at one-sided errors in (0, .5], float64[G] each; they grow as the error
            shrinks.
        estimate: Estimates, float64[G].
        margin: Value under the hypothesis.
        alternative: ``"greater"`` tests H0: value ≤ margin, ``"less"`` H0: value ≥ margin.

    Returns:
        float64[G], at least 1e-300, above .5 where the estimate is on the margin's side; NaN where a half-width is.

    Raises:
        ArgumentError: An unknown alternative.

    Example:
        >>> from scipy import stats
        >>> p = one_sided_p_value(lambda tail: (stats.norm.isf(tail),) * 2, np.array([1.6449, -1.6449]), 0.0)
        >>> p.round(4)
        array([0.05, 0.95])
    """
    if alternative not in ("greater", "less"):
        raise ArgumentError(f"alternative must be 'greater' or 'less', got {alternative!r}; pass one of them.")
    above, distance = estimate >= margin, np.abs(estimate - margin)
    low, high = np.full_like(estimate, np.log(_TINY)), np.full_like(estimate, np.log(0.5))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        half = np.where(above, *half_widths(np.exp(middle)))
        excluded = distance > half
        low, high = np.where(excluded, low, middle), np.where(excluded, middle, high)
    known = np.isfinite(np.where(above, *half_widths(np.full_like(estimate, 0.5))))
    one_sided = np.where(known, np.exp(high), np.nan)
    return np.asarray(np.where(above == (alternative == "greater"), one_sided, 1 - one_sided))
