"""Difference of two estimates, such as those of two audits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from lightning_memaudit.functional.memorization import GroupMean
from lightning_memaudit.functional.uncertainty import OneSided, Tail, one_sided_p_value

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray

Part = TypeVar("Part", OneSided, GroupMean)


@dataclass(frozen=True, slots=True)
class Difference(Generic[Part]):
    """New minus old, one entry a group, by square-and-add (Zou and Donner 2008).

    Both are treated as independent. Two audits of one test set share its examples, so that their errors go together
    more often than not; the bounds are then farther apart than they need to be.

    Attributes:
        new: The later estimate.
        old: The earlier one, of the same groups.
    """

    new: Part
    old: Part

    @property
    def estimate(self) -> FloatArray:
        """New minus old, float64[G]."""
        return self.new.estimate - self.old.estimate

    def half_widths(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Half-widths down and up.

        Args:
            tail: One-sided error, a scalar array or one for each group.

        Returns:
            Both, float64[G].
        """
        (new_down, new_up), (old_down, old_up) = self.new.half_widths(tail), self.old.half_widths(tail)
        return np.hypot(new_down, old_up), np.hypot(new_up, old_down)

    def p_value(self, margin: float | FloatArray = 0.0, *, alternative: Tail = "greater") -> FloatArray:
        """One-sided p-value by inverting the bounds.

        Args:
            margin: Difference under the hypothesis, one or float64[G].
            alternative: ``"greater"`` tests H0: difference ≤ margin, ``"less"`` H0: difference ≥ margin.

        Returns:
            float64[G].

        Example:
            >>> from lightning_memaudit.functional.impact import error_rate
            >>> wrong, right = np.zeros((4, 60)), np.ones((4, 60))
            >>> codes = np.zeros(60, dtype=int)
            >>> new, old = (OneSided(error_rate(x, codes).error, one_way=True) for x in (wrong, right))
            >>> found = Difference(new, old)
            >>> bool(found.p_value(0.5)[0] < 1e-6), bool(found.p_value(1.0)[0] > 0.4)
            (True, True)
        """
        return one_sided_p_value(self, margin, alternative=alternative)
