"""Agresti–Caffo interval of a group's mean memorization: a floor where a jackknife over models sees no variation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import divide

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray, IntArray
    from lightning_memaudit.functional.memorization._in_out import InOut

# Of the design effects that the observed events leave possible, the largest at this one-sided level (the median).
_DOUBT = 0.5


def group_mean(values: FloatArray, groups: IntArray, *, n_groups: int) -> FloatArray:
    """Mean of the values that are there, by group.

    Args:
        values: One an example, float64[n]; NaN where there is none.
        groups: Group of each example, int64[n].
        n_groups: G.

    Returns:
        The means, float64[G]; NaN for a group with none.

    Example:
        >>> group_mean(np.array([1.0, np.nan, 0.5]), np.array([0, 0, 0]), n_groups=2)
        array([0.75,  nan])
    """
    there = np.isfinite(values)
    count: FloatArray = np.bincount(groups[there], minlength=n_groups).astype(np.float64)
    total = np.bincount(groups[there], weights=values[there], minlength=n_groups)
    return divide(np.asarray(total, dtype=np.float64), count)


@dataclass(frozen=True, slots=True)
class GroupFloor:
    """One sample in and one out, in this order, of outcomes that are as good as independent, float64[2, G] each.

    Attributes:
        mean: Mean outcome.
        spread: Mean squared deviation within members.
        size: Outcomes N over the design effect d.
    """

    mean: FloatArray
    spread: FloatArray
    size: FloatArray

    def interval(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Interval of the mean of in minus out that has a width when all models agree.

        Each sample is given max(1, z²/4) outcomes at 0 and as many at 1, as ``agresti_caffo`` does with
        ``pseudo_counts="level"``; for one member with 0/1 outcomes the result is that interval.

        Args:
            tail: One-sided error of each end, a scalar array or float64[G].

        Returns:
            ``(low, high)``, float64[G], not clipped; NaN for a group without members.
        """
        z = stats.norm.isf(tail)
        extra = np.maximum(1.0, z**2 / 4)
        total = self.size + 2 * extra
        shrunk = (self.size * self.mean + extra) / total
        squared = (self.size * (self.spread + self.mean**2) + extra) / total
        center = shrunk[0] - shrunk[1]
        half = z * np.sqrt((np.maximum(squared - shrunk**2, 0.0) / total).sum(axis=0))
        return center - half, center + half


def group_floor(in_out: InOut, squares: InOut, groups: IntArray, *, n_groups: int, variance: FloatArray) -> GroupFloor:
    """Samples behind the interval of the mean of in minus out that has a width when all models agree.

    In and out of a group are one sample each of N = m h / d outcomes, with m members, h the harmonic mean of their
    numbers of models and d the design effect: 1 when members fail independently of each other within a model, m when
    they all fail together.

    d is the ratio of the jackknife's variance to that of independent outcomes, but at least the largest d that the
    events leave possible, and in [1, m]. An event is an outcome that differs from most on its side. Under beta-binomial
    outcomes with intraclass correlation 1 / (1 + b) a rare event is alone among m members with probability
    b / (b + m − 1), so E events alone bound that from below by .5^(1/E) at even odds: without any event d = m, and
    the bound falls to 1 + .7 / E. In and out share one d.

    Args:
        in_out: Sums in and out, for estimable examples only.
        squares: The same sums of squared outcomes.
        groups: Group of each example, int64[n].
        n_groups: G.
        variance: The jackknife's variance of each group's mean, float64[G]; NaN (unknown) gives d = m.

    Returns:
        Both samples of each group.

    Example:
        >>> from lightning_memaudit.functional.memorization import InOut
        >>> in_out = InOut(np.array([25.0]), np.array([0.0]), np.array([25.0]), np.array([25.0]))
        >>> floor = group_floor(in_out, in_out, np.array([0]), n_groups=1, variance=np.array([0.0]))
        >>> low, high = floor.interval(np.array(0.025))
        >>> print(f"{low[0]:.4f} {high[0]:.4f}")
        0.8252 1.0267
    """
    members = np.bincount(groups, minlength=n_groups).astype(np.float64)
    samples, independent, events = [], np.zeros(n_groups), np.zeros(n_groups)
    for mean, square, n in zip(in_out.means(), squares.means(), (in_out.n_in, in_out.n_out), strict=True):
        within = np.maximum(square - mean**2, 0.0)
        # The jackknife's own variance of a mean, so that the ratio is 1 for a single member.
        independent += divide(group_mean(within * n / np.maximum(n - 1, 1) ** 2, groups, n_groups=n_groups), members)
        events += np.bincount(groups, weights=within * n, minlength=n_groups)
        inverse = group_mean(1 / n, groups, n_groups=n_groups)
        spread = divide(group_mean(within / n, groups, n_groups=n_groups), inverse)
        samples.append((group_mean(mean, groups, n_groups=n_groups), spread, divide(members, inverse)))

    ratio = np.where(independent > 0, divide(variance, independent), np.where(np.isnan(variance), np.nan, 1.0))
    ratio = np.clip(np.where(np.isnan(ratio), members, ratio), 1.0, np.maximum(members, 1.0))
    alone = _DOUBT ** (1 / np.maximum(events / ratio, 1e-9))
    possible = 1 + (members - 1) * divide(1 - alone, 1 - alone + (members - 1) * alone)
    # A single member has nothing to be correlated with.
    effect = np.where(members > 1, np.maximum(ratio, possible), 1.0)

    mean, spread, outcomes = (np.stack(part) for part in zip(*samples, strict=True))
    return GroupFloor(mean, spread, outcomes / effect)
