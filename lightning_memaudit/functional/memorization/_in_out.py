"""Sums in and out for each example: over the models that trained on it, and over those that did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.checks import divide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightning_memaudit.functional.checks import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class InOut:
    """Sums of outcomes and numbers of models with each example in and out.

    Attributes:
        sum_in: Sum of outcomes over models with the example in, float64[n]; NaN where an outcome is NaN.
        sum_out: The same over models with the example out.
        n_in: Number of models with the example in, float64[n] (whole numbers).
        n_out: Number of models with the example out.
    """

    sum_in: FloatArray
    sum_out: FloatArray
    n_in: FloatArray
    n_out: FloatArray

    @property
    def estimable(self) -> BoolArray:
        """Examples that have a model in, a model out and no missing outcome, bool[n]."""
        return np.asarray((self.n_in > 0) & (self.n_out > 0) & np.isfinite(self.sum_in + self.sum_out))

    def means(self) -> tuple[FloatArray, FloatArray]:
        """Mean outcome in and out, float64[n] each; NaN without a model."""
        return divide(self.sum_in, self.n_in), divide(self.sum_out, self.n_out)


def in_out_sums(correct: NDArray[Any], mask: BoolArray, weights: FloatArray | None = None) -> InOut:
    """Sum outcomes in and out, each model counted as often as its weight says.

    Args:
        correct: Checked outcomes [M, n].
        mask: Checked membership [M, n].
        weights: How often each model counts, float64[M]; ``None``: once.

    Returns:
        Sums and counts, float64[n] each.

    Example:
        >>> sums = in_out_sums(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[True, True], [False, True]]))
        >>> sums.sum_in, sums.n_out
        (array([1., 1.]), array([1., 0.]))
    """
    weight = np.ones(len(correct)) if weights is None else weights
    sum_in, sum_out, n_in = (np.zeros(correct.shape[1]) for _ in range(3))
    for row, inside, times in zip(correct, mask, weight, strict=True):
        if times:
            # A missing outcome must spoil both sums, so products are used, not selections.
            sum_in += times * (row * inside)
            sum_out += times * (row * ~inside)
            n_in += times * inside
    return InOut(sum_in, sum_out, n_in, weight.sum() - n_in)
