"""One-sided bounds for decisions: those of a two-way estimate, exact where few examples differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats

from lightning_memaudit.functional.checks import divide
from lightning_memaudit.functional.uncertainty._inversion import Tail, one_sided_p_value
from lightning_memaudit.functional.uncertainty._two_way import flip_size

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import BoolArray, FloatArray
    from lightning_memaudit.functional.uncertainty._two_way import TwoWay


@dataclass(frozen=True, slots=True)
class OneSided:
    """Bounds of a mean difference whose errors in each tail are about what they say, or less.

    A two-sided interval may err more on one side than on the other. Where few examples differ and all in one
    direction, Tango's does: with one model and 3 of 60 examples lost by expectation its lower end misses .08 at a
    nominal .05; with none of 50 lost its upper end is .051, which a loss of .055 would leave at .06. So the score
    form's part of a half-width is at least that of Clopper–Pearson's bound of the share of flips in the direction that
    has more of them. Where the other direction is impossible (``one_way``) it is Clopper–Pearson's bound itself. The
    normal form, the models' part and the skewness stay as they are.

    Attributes:
        two_way: The estimate.
        one_way: Whether no example can be gained, as for an error rate.
    """

    two_way: TwoWay
    one_way: bool = False

    @property
    def n(self) -> FloatArray:
        """Number of examples, float64[G]."""
        return self.two_way.n

    @property
    def estimate(self) -> FloatArray:
        """Mean difference, float64[G]."""
        return self.two_way.estimate

    @property
    def example_df(self) -> FloatArray:
        """Degrees of freedom of the examples, float64[G]."""
        return self.two_way.example_df

    @property
    def n_models(self) -> FloatArray:
        """Models of the smallest draw, float64[G]."""
        return self.two_way.n_models

    @property
    def covers_models(self) -> BoolArray:
        """Whether every arm has two or more models, bool[G]."""
        return self.two_way.covers_models

    def example_squares(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Squared half-widths, down and up, from the examples alone.

        Args:
            tail: One-sided error, a scalar array or one for each group.

        Returns:
            Down and up, float64[G].
        """
        found = self.two_way
        normal = np.minimum(stats.t.isf(tail, found.example_df), 1e60) ** 2 * found.example_variance
        if not found.score.any():
            return normal, normal
        size = flip_size(found.flips, found.scale)
        # Rounding may lift the number of flips above the number of examples.
        lost, gained = (
            np.minimum(divide(flips / found.scale, size), found.n) for flips in (found.flips.lost, found.flips.gained)
        )
        down, up = (size * found.scale * reach for reach in _reach(np.maximum(lost, gained), found.n, tail))
        down, up = np.where(lost >= gained, down, up), np.where(lost >= gained, up, down)
        squares = down**2, up**2
        if not self.one_way:
            tango_down, tango_up = found.example_squares(tail)
            squares = np.maximum(squares[0], tango_down), np.maximum(squares[1], tango_up)
        return np.where(found.score, squares[0], normal), np.where(found.score, squares[1], normal)

    def model_squares(self, tail: FloatArray, example_df: FloatArray | None = None) -> FloatArray:
        """What the models add to the squared half-widths, float64[G]."""
        return self.two_way.model_squares(tail, example_df)

    def lasting_squares(self, tail: FloatArray) -> FloatArray:
        """What the models would add however many examples there are, float64[G]."""
        return self.two_way.lasting_squares(tail)

    def half_widths(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Half-widths down and up.

        Args:
            tail: One-sided error, a scalar array or one for each group.

        Returns:
            Both, float64[G].
        """
        down, up = self.example_squares(tail)
        models = self.model_squares(tail)
        more_down, more_up = self.two_way.skew_widths(tail)
        return np.sqrt(down + models) + more_down, np.sqrt(up + models) + more_up

    def p_value(self, margin: float | FloatArray = 0.0, *, alternative: Tail = "greater") -> FloatArray:
        """One-sided p-value: below α exactly where the bound at α excludes the margin.

        Args:
            margin: Difference under the hypothesis, one or float64[G].
            alternative: ``"greater"`` tests H0: difference ≤ margin, ``"less"`` H0: difference ≥ margin.

        Returns:
            float64[G]; NaN for a group without examples.

        Example:
            >>> from lightning_memaudit.functional.uncertainty import two_way
            >>> arms, groups = [np.ones((1, 50)), np.arange(50)[None] >= 5.0], np.zeros(50, dtype=int)
            >>> seen = two_way(arms, (1, -1), groups, n_groups=1)
            >>> OneSided(seen, one_way=True).p_value(0.02).round(4)  # five or more of fifty at a rate of .02
            array([0.0032])
        """
        return one_sided_p_value(self, margin, alternative=alternative)


def _reach(count: FloatArray, n: FloatArray, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How far Clopper–Pearson bounds of a share reach down and up; counts need not be whole."""
    share, left = divide(count, n), n - count
    low = np.where(count > 0, special.betaincinv(np.maximum(count, 1e-9), left + 1, tail), 0.0)
    high = np.where(left > 0, special.betainccinv(count + 1, np.maximum(left, 1e-9), tail), 1.0)
    # SciPy's inverses are NaN at errors below about 1e-100, where the bounds are at the ends of [0, 1].
    return share - np.nan_to_num(low), np.nan_to_num(high, nan=1.0) - share
