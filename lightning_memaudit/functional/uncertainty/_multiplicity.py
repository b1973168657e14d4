"""p-values of several groups at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import Array, as_array, as_choice, element_error

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray


def adjust_p_values(p: Array, *, method: Literal["holm", "bh"] = "holm") -> FloatArray:
    """Adjust p-values for their number.

    Args:
        p: p-values of all hypotheses together [m]. A NaN stays NaN and still counts as one of them.
        method: ``"holm"`` (Holm 1979; no false finding at all with probability 1 − α) or ``"bh"`` (Benjamini and
            Hochberg 1995; at most a share α of the findings is false, on average).

    Returns:
        Adjusted p-values, float64[m]; a hypothesis is rejected where its own is below α.

    Raises:
        ArgumentError: A value outside [0, 1], or an unknown method.

    Example:
        >>> adjust_p_values([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])
    """
    values = as_array(p, name="p", ndim=1)
    wrong = (values < 0) | (values > 1)
    if wrong.any():
        raise element_error("p", values, wrong, "p-values in [0, 1] are needed")
    as_choice(method, name="method", options=("holm", "bh"))
    missing = np.isnan(values)
    filled = np.where(missing, 1.0, values)
    if not len(filled):
        return filled
    if method == "bh":
        adjusted = np.asarray(stats.false_discovery_control(filled, method="bh"), dtype=np.float64)
    else:
        order = np.argsort(filled, kind="stable")
        steps = np.maximum.accumulate(filled[order] * np.arange(len(filled), 0, -1))
        adjusted = np.empty_like(filled)
        adjusted[order] = np.minimum(steps, 1.0)
    return np.where(missing, np.nan, adjusted)
