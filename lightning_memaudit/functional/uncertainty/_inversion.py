"""p-values by inverting one-sided bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from scipy import special
from scipy.optimize import elementwise

from lightning_memaudit.functional.checks import as_choice
from lightning_memaudit.functional.uncertainty._take import take

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray, IntArray

Tail = Literal["greater", "less"]
_FAR = 8.0
_FARTHEST = 30.0  # normal quantile of 5e-198, the smallest error; farther out quantiles of t are no longer right


class Bounded(Protocol):
    """A dataclass with one entry a group, estimates and half-widths."""

    @property
    def estimate(self) -> FloatArray:
        """Estimates, float64[G]."""

    def half_widths(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Half-widths down and up at one-sided errors in (0, .5], float64[G]; they grow as the error shrinks."""


def one_sided_p_value(found: Bounded, margin: float | FloatArray, *, alternative: Tail = "greater") -> FloatArray:
    """The smallest one-sided error at which a bound excludes a margin.

    Half-widths are nearly straight lines over the normal quantile of their error, so it is the quantile at which they
    reach the margin that is searched for (Chandrupatla 1997).

    Args:
        found: The estimate.
        margin: Value under the hypothesis, one or float64[G].
        alternative: ``"greater"`` tests H0: value ≤ margin, ``"less"`` H0: value ≥ margin.

    Returns:
        float64[G], at least 5e-198, .5 or more where the estimate is on the margin's side; NaN where a half-width is.

    Raises:
        ArgumentError: An unknown alternative.
    """
    as_choice(alternative, name="alternative", options=get_args(Tail))
    estimate = found.estimate
    above, distance = estimate >= margin, np.abs(estimate - margin)

    def left(z: Any, rows: Any) -> Any:
        """What of the distance is beyond the half-width: falls with z; where it is above 0 the margin is excluded."""
        chosen: IntArray = np.asarray(rows, dtype=np.int64)
        half = np.where(above[chosen], *take(found, chosen).half_widths(special.ndtr(-z)))
        return distance[chosen] - half

    everyone = np.arange(len(estimate))
    nearest = left(np.zeros_like(estimate), everyone)
    quantile = np.zeros_like(estimate)
    rows, low = np.flatnonzero(nearest > 0), 0.0
    for high in (_FAR, _FARTHEST):  # bounds at the smallest errors take long, and few margins are so far
        beyond = left(np.full(len(rows), high), rows) > 0
        inside, rows = rows[~beyond], rows[beyond]
        if len(inside):
            ends = np.full(len(inside), low), np.full(len(inside), high)
            root = elementwise.find_root(left, ends, args=(inside,), tolerances={"xatol": 1e-9, "xrtol": 1e-9})
            quantile[inside] = root.x
        low = high
    quantile[rows] = _FARTHEST
    one_sided = np.where(np.isfinite(nearest), special.ndtr(-quantile), np.nan)
    return np.asarray(np.where(above == (alternative == "greater"), one_sided, 1 - one_sided))
