"""Interval of a drop relative to the accuracy that it starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import as_probability, divide

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray
    from lightning_memaudit.functional.uncertainty._two_way import TwoWay


def relative_interval(
    drop: TwoWay, base: TwoWay, treated: TwoWay, *, level: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Relative drop, drop / base accuracy, with Fieller's interval (Fieller 1954).

    The limits are the ratios ρ at which ``drop − ρ base`` is as far from 0 as its interval reaches. Its squared
    half-width is ``S(drop) − 2ρ C + ρ² S(base)`` with S those of the normal form of ``two_way.TwoWay`` and
    ``C = (S(drop) + S(base) − S(treated)) / 2``, for examples and models each. Where few examples differ, S(drop) is
    that of the drop's own interval on each side.

    Args:
        drop: Accuracy of the base minus that of the treated arm.
        base: Accuracy of the base arm.
        treated: Accuracy of the treated arm.
        level: Two-sided confidence level.

    Returns:
        Relative drop and both ends, float64[G], at most 1. The ends are NaN where the base accuracy cannot be told from
        0 (Fieller's set is unbounded), and for a group without examples.

    Example:
        >>> from lightning_memaudit.functional.uncertainty import two_way
        >>> tables, codes = (np.eye(4, 8), np.eye(4, 8, 1)), np.zeros(8, dtype=int)
        >>> drop = two_way(tables, (1, -1), codes, n_groups=1)
        >>> base, treated = (two_way([table], (1,), codes, n_groups=1, form="normal") for table in tables)
        >>> relative_interval(drop, base, treated, level=0.9)[0]
        array([0.])
    """
    tail = np.asarray((1 - as_probability(level, name="level")) / 2)
    df = np.maximum(drop.n - 1, 1.0)
    t2, joint = stats.t.isf(tail, df) ** 2, drop.joint_factor(tail)
    of_drop, of_base, of_treated = (
        (t2 * x.example_variance, x.model_squares(tail, df, joint)) for x in (drop, base, treated)
    )
    covariance: FloatArray = np.zeros_like(drop.estimate)
    for in_drop, in_base, in_treated in zip(of_drop, of_base, of_treated, strict=True):
        limit = np.sqrt(in_drop * in_base)
        covariance = covariance + np.clip((in_drop + in_base - in_treated) / 2, -limit, limit)
    down, up = drop.half_widths(tail)
    a = base.estimate**2 - sum(of_base)
    half = drop.estimate * base.estimate - covariance
    reach_down, reach_up = (np.sqrt(np.maximum(half**2 - a * (drop.estimate**2 - side**2), 0.0)) for side in (down, up))
    low, high = divide(half - reach_down, a), divide(half + reach_up, a)
    return divide(drop.estimate, base.estimate), np.minimum(low, 1.0), np.minimum(high, 1.0)
