"""The law of random subsets, as far as the exact answers need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import special, stats

from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import argument_error

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray

__all__ = ["ExactDesign", "SubsetLaw", "zipf_weights"]

ExactDesign = Literal["fixed_size", "bernoulli"]


@dataclass(frozen=True)
class SubsetLaw:
    """Which of the other n − 1 examples are in, given that one example is in (``itself=1``) or out (``itself=0``).

    Args:
        n_examples: Number of examples ``n``.
        subset_fraction: As in ``SubsetPlan``.
        design: ``"fixed_size"`` or ``"bernoulli"``.

    Raises:
        ArgumentError: The plan does not exist, or its design cannot be enumerated.

    Example:
        >>> SubsetLaw(4, subset_fraction=0.5, design="fixed_size").none_in(1, itself=0)
        array([1.        , 0.33333333])
    """

    n_examples: int
    subset_fraction: float = field(kw_only=True)
    design: ExactDesign = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.design not in get_args(ExactDesign):
            raise argument_error(
                "design", self.design, f"exact answers exist for {' and '.join(get_args(ExactDesign))}"
            )
        SubsetPlan(self.n_examples, subset_fraction=self.subset_fraction, design=self.design)  # its own checks

    def n_others_in(self, itself: int) -> int:
        """How many of the other examples are in (``"fixed_size"``)."""
        return round(self.subset_fraction * self.n_examples) - itself

    def rate(self, itself: int) -> float:
        """The probability that one particular other example is in."""
        if self.design == "bernoulli":
            return float(self.subset_fraction)
        return self.n_others_in(itself) / (self.n_examples - 1)

    def weights(self, n_here: int, itself: int) -> FloatArray:
        """float64[n_here + 1]: by what to multiply the independent law when t of ``n_here`` other examples are in.

        Independent coins, conditioned on their total s, are draws without replacement. So the hypergeometric
        probability of any event among ``n_here`` examples is that of independent coins with probability ``rate``, times
        P(s − t heads among the rest) / P(s heads among all).
        """
        if self.design == "bernoulli":
            return np.ones(n_here + 1)
        others, size, rate = self.n_examples - 1, self.n_others_in(itself), self.rate(itself)
        rest = stats.binom.pmf(size - np.arange(n_here + 1), others - n_here, rate)
        return np.asarray(rest / stats.binom.pmf(size, others, rate), dtype=np.float64)

    def none_in(self, n_here: int, itself: int) -> FloatArray:
        """float64[n_here + 1]: the probability that none of t particular other examples is in, t = 0..n_here."""
        t = np.arange(n_here + 1)
        if self.design == "bernoulli":
            return np.asarray((1 - self.subset_fraction) ** t, dtype=np.float64)
        others, size = self.n_examples - 1, self.n_others_in(itself)
        out = others - size - np.arange(n_here)
        ratios = np.maximum(out, 0) / (others - np.arange(n_here))
        return np.concatenate([[1.0], np.cumprod(ratios)])


def zipf_weights(n_points: int, exponent: float) -> FloatArray:
    """float64[n_points]: frequencies in proportion to k ** −exponent, k = 1..n_points; they sum to 1.

    Raises:
        ArgumentError: No point, or an exponent below 0.
    """
    if n_points < 1 or not 0 <= exponent < np.inf:
        raise ArgumentError(
            f"n_points={n_points}, exponent={exponent}: at least 1 and a number of at least 0 are needed"
        )
    return np.asarray(special.softmax(-exponent * np.log(np.arange(1, n_points + 1))), dtype=np.float64)
