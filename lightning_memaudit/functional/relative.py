"""Interval of a drop relative to the accuracy that it starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from lightning_memaudit.functional.arms import divide
from lightning_memaudit.functional.checks import as_probability

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray
    from lightning_memaudit.functional.two_way import TwoWay


def relative_interval(
    drop: TwoWay, base: TwoWay, treated: TwoWay, *, level: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Relative drop, drop / base accuracy, with Fieller's interval (Fieller 1954).

    The limits are the ratios ρ at which ``drop − ρ base`` is as far from 0 as its interval reaches. Its variance is
    ``V(drop) − 2ρ C + ρ² V(base)`` with ``C = (V(drop) + V(base) − V(treated)) / 2``, for examples and models each.
    Where few examples differ, V(drop) is replaced on each side by what gives the half-width of the drop's own interval.

    Args:
        drop: Accuracy of the base minus that of the treated arm.
        base: Accuracy of the base arm.
        treated: Accuracy of the treated arm.
        level: Two-sided confidence level.

    Returns:
        Relative drop and both ends, float64[G], at most 1. The ends are NaN where the base accuracy cannot be told from
        0 (Fieller's set is unbounded), and for a group without examples.

    Example:
        >>> from lightning_memaudit.functional.two_way import two_way
        >>> tables, codes = (np.eye(4, 8), np.eye(4, 8, 1)), np.zeros(8, dtype=int)
        >>> drop = two_way(tables, (1, -1), codes, 1)
        >>> base, treated = (two_way([table], (1,), codes, 1, form="normal") for table in tables)
        >>> relative_interval(drop, base, treated, level=0.9)[0]
        array([0.])
    """
    tail = np.asarray((1 - as_probability(level, name="level")) / 2)
    t2 = stats.t.isf(tail, drop.df) ** 2
    covariance: FloatArray = np.zeros_like(drop.estimate)
    for source in ("example_variance", "model_variance"):
        of_drop, of_base, of_treated = (getattr(x, source) for x in (drop, base, treated))
        limit = np.sqrt(of_drop * of_base)
        covariance = covariance + np.clip((of_drop + of_base - of_treated) / 2, -limit, limit)
    v_base = base.example_variance + base.model_variance
    down, up = drop.half_widths(tail)
    a = base.estimate**2 - t2 * v_base
    half = drop.estimate * base.estimate - t2 * covariance
    reach_down, reach_up = (np.sqrt(np.maximum(half**2 - a * (drop.estimate**2 - side**2), 0.0)) for side in (down, up))
    low, high = divide(half - reach_down, a), divide(half + reach_up, a)
    return divide(drop.estimate, base.estimate), np.minimum(low, 1.0), np.minimum(high, 1.0)
