"""Mean memorization of a group, with what bounds at any level need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import as_probability
from lightning_memaudit.functional.uncertainty import Tail, one_sided_p_value

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray
    from lightning_memaudit.functional.intervals import Interval
    from lightning_memaudit.functional.memorization._group_floor import GroupFloor


@dataclass(frozen=True, slots=True)
class GroupMean:
    """Mean score of each group for its very examples, over the randomness of models.

    Attributes:
        n: Estimable examples, float64[G].
        estimate: Mean score, float64[G]; NaN without.
        variance: The jackknife's, float64[G]; NaN where a replicate loses the whole group.
        df: Blocks of models less one, float64[G].
        floor: Samples whose interval has a width when all models agree.
    """

    n: FloatArray
    estimate: FloatArray
    variance: FloatArray
    df: FloatArray
    floor: GroupFloor

    def half_widths(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Half-widths down and up: of the jackknife's interval or of the floor's, whichever reaches farther.

        Args:
            tail: One-sided error, a scalar array or one for each group.

        Returns:
            Both, float64[G].
        """
        jackknife = stats.t.isf(tail, self.df) * np.sqrt(self.variance)
        low, high = self.floor.interval(tail)
        # Where the jackknife is NaN the floor stands alone.
        known = np.isfinite(self.estimate)
        down, up = np.fmax(jackknife, self.estimate - low), np.fmax(jackknife, high - self.estimate)
        return np.where(known, np.maximum(down, 0.0), np.nan), np.where(known, np.maximum(up, 0.0), np.nan)

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided interval; each end is a one-sided bound at ``(1 + level) / 2``.

        Args:
            level: Confidence level.

        Returns:
            ``(low, high)``, float64[G], within plus and minus 1.

        Raises:
            ArgumentError: ``level`` is not in (0, 1).
        """
        down, up = self.half_widths(np.asarray((1 - as_probability(level, name="level")) / 2))
        return np.maximum(self.estimate - down, -1.0), np.minimum(self.estimate + up, 1.0)

    def p_value(self, margin: float | FloatArray = 0.0, *, alternative: Tail = "greater") -> FloatArray:
        """One-sided p-value by inverting the interval.

        Args:
            margin: Mean score under the hypothesis, one or float64[G].
            alternative: ``"greater"`` tests H0: mean ≤ margin, ``"less"`` H0: mean ≥ margin.

        Returns:
            float64[G]; NaN for a group without estimable examples.
        """
        return one_sided_p_value(self, margin, alternative=alternative)
