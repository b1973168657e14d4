"""Regression adjustment of memorization scores for the quality of each model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.checks import (
    Array,
    BoolArray,
    FloatArray,
    argument_error,
    as_array,
    as_outcomes,
    divide,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AdjustedMemorization:
    """Adjusted scores and what the adjustment was worth.

    Attributes:
        score: Adjusted memorization, float64[n]; NaN where no model has the example in, or none out. It may leave
            [−1, 1] a little.
        gain: 1 − the mean over examples of the ratio of adjusted to raw variance of the score: .1 means 10 % fewer
            models for the same error. The adjusted variance is that of least squares, the price of estimating the
            slopes included, so below 0 the covariate did harm. NaN where no example can tell.
    """

    score: FloatArray
    gain: float


def adjusted_memorization_score(correct: Array, mask: Array, covariate: Array) -> AdjustedMemorization:
    """Adjust memorization for how good the models in and out happened to be (Lin 2013, section 4, with interactions).

    For each example, outcomes are regressed on membership, the centred covariate and their product; the coefficient of
    membership is the score. That is the difference of the regression lines in and out at the mean covariate. It has no
    asymptotic bias, whatever the truth, because subsets are drawn without regard to the covariate. A side (in or out)
    with fewer than three models, or with no spread of the covariate, is left as it is. Cost is O(M · n).

    Args:
        correct: Outcomes [M, n] in [0, 1].
        mask: Membership [M, n].
        covariate: One number a model [M], such as its overall accuracy.

    Returns:
        Adjusted scores, and the gain.

    Raises:
        ArgumentError: Malformed arrays, or a covariate of another length or with values that are not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = rng.random((200, 50)) < 0.5
        >>> quality = rng.uniform(0.2, 0.8, 200)
        >>> correct = rng.random((200, 50)) < quality[:, None]
        >>> adjusted_memorization_score(correct, mask, quality).gain > 0.05
        True
    """
    outcomes, inside = as_outcomes(correct, mask)
    x = as_array(covariate, name="covariate", ndim=1)
    if len(x) != len(outcomes) or not np.isfinite(x).all():
        raise argument_error("covariate", x, f"{len(outcomes)} finite numbers are needed, one a model")
    centred = x - x.mean()
    mean_in, raw_in, rest_in = _side(outcomes, inside, centred)
    mean_out, raw_out, rest_out = _side(outcomes, ~inside, centred)
    ratio = divide(rest_in + rest_out, raw_in + raw_out)
    ratio = ratio[np.isfinite(ratio)]
    return AdjustedMemorization(mean_in - mean_out, float(1 - ratio.mean()) if len(ratio) else float("nan"))


def _side(correct: NDArray[Any], side: BoolArray, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Line of one side (in or out) at x = 0, and the variance of its mean without and with the covariate."""
    n, sx, sxx, sy, syy, sxy = (np.zeros(correct.shape[1]) for _ in range(6))
    for row, inside, value in zip(correct, side, x, strict=True):
        y = row * inside * 1.0
        n += inside
        sx += value * inside
        sxx += value**2 * inside
        sy += y
        syy += y * y
        sxy += value * y
    mean_x, mean_y = divide(sx, n), divide(sy, n)
    var_x, var_y = np.maximum(sxx - n * mean_x**2, 0.0), np.maximum(syy - n * mean_y**2, 0.0)
    cov = sxy - n * mean_x * mean_y
    usable = (n >= 3) & (var_x > 1e-12 * np.maximum(sxx, 1e-300))
    slope = np.where(usable, cov / np.where(usable, var_x, 1.0), 0.0)
    residual = np.maximum(var_y - slope * cov, 0.0)
    raw = divide(var_y, np.where(n > 1, n * (n - 1), 0.0))
    leverage = 1 / np.maximum(n, 1.0) + np.where(usable, mean_x**2 / np.where(usable, var_x, 1.0), 0.0)
    rest = np.where(usable, divide(residual, n - 2) * leverage, raw)
    return mean_y - slope * mean_x, raw, rest
