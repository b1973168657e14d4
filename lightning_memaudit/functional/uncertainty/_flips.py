"""Sums by group of the difference of each example between arms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.functional.checks import divide

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Flips:
    """Sums by group of the difference ``d`` of each example, float64[G] each; all are sums over examples.

    Attributes:
        n: Number of examples.
        shifted: Sum of d − centre, the centre being the mean of d over all groups.
        spread: Sum of (d − centre)².
        third: Sum of (d − centre)³.
        lost: Sum of d where it is positive.
        gained: Sum of −d where it is negative.
        squares: Sum of d².
    """

    n: FloatArray
    shifted: FloatArray
    spread: FloatArray
    third: FloatArray
    lost: FloatArray
    gained: FloatArray
    squares: FloatArray

    def rest(self) -> Flips:
        """The sums over the examples of all other groups."""

        def others(values: FloatArray) -> FloatArray:
            return np.asarray(np.maximum(values.sum() - values, 0.0))

        return Flips(
            n=others(self.n),
            shifted=self.shifted.sum() - self.shifted,
            spread=others(self.spread),
            third=self.third.sum() - self.third,
            lost=others(self.lost),
            gained=others(self.gained),
            squares=others(self.squares),
        )

    @property
    def mean(self) -> FloatArray:
        """Mean difference; NaN without examples."""
        return divide(self.lost - self.gained, self.n)

    @property
    def variance(self) -> FloatArray:
        """Variance of the mean over random examples, s²(d) / n; 0 for a single example, NaN without."""
        about = np.maximum(self.spread - np.nan_to_num(divide(self.shifted**2, self.n)), 0.0)
        return divide(np.nan_to_num(divide(about, self.n - 1)), self.n)

    @property
    def third_moment(self) -> FloatArray:
        """Third central moment of the mean over random examples, k₃(d) / n² with the third k-statistic of d.

        0 below three examples, NaN without.
        """
        mean = divide(self.shifted, self.n)
        about = self.third - 3 * mean * self.spread + 2 * self.n * mean**3
        return divide(np.nan_to_num(divide(about, (self.n - 1) * (self.n - 2))), self.n)

    def third_moment_of(self, size: FloatArray) -> FloatArray:
        """The same if all differences that are not 0 had one size, with the sums lost, gained and of squares kept."""
        mean = self.mean
        about = size**2 * (self.lost - self.gained) - 3 * mean * size * (self.lost + self.gained) + 2 * self.n * mean**3
        return divide(np.nan_to_num(divide(about, (self.n - 1) * (self.n - 2))), self.n)


def flips(differences: FloatArray, groups: IntArray, *, n_groups: int) -> Flips:
    """Sum differences by group.

    Args:
        differences: d of each example, float64[n].
        groups: Group of each, int64[n].
        n_groups: G.

    Returns:
        The sums.

    Example:
        >>> found = flips(np.array([0.5, -0.5, 1.0]), np.array([0, 0, 1]), n_groups=2)
        >>> found.mean, found.lost
        (array([0., 1.]), array([0.5, 1. ]))
    """

    def by_group(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(groups, weights=values, minlength=n_groups), dtype=np.float64)

    shifted = differences - (differences.mean() if len(differences) else 0.0)
    return Flips(
        n=by_group(np.ones(len(groups))),
        shifted=by_group(shifted),
        spread=by_group(shifted**2),
        third=by_group(shifted**3),
        lost=by_group(np.maximum(differences, 0.0)),
        gained=by_group(np.maximum(-differences, 0.0)),
        squares=by_group(differences**2),
    )
