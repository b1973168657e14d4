"""Mean memorization of a group, with what bounds at any level need."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import as_probability
from lightning_memaudit.functional.memorization._group_floor import GroupFloor
from lightning_memaudit.functional.uncertainty import Tail, one_sided_p_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning_memaudit.functional.checks import FloatArray
    from lightning_memaudit.functional.intervals import Interval

_NUMBERS, _PAIRS = ("n", "estimate", "df"), ("mean", "spread", "size")


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


def group_mean_record(found: GroupMean, g: int) -> dict[str, Any] | None:
    """Statistics of one group, JSON-ready.

    Args:
        found: The means.
        g: Number of the group.

    Returns:
        A mapping that ``group_mean_of`` reads, or None for a group without estimable examples.
    """
    if not found.n[g] > 0:
        return None
    variance = float(found.variance[g])
    return {
        **{key: float(getattr(found, key)[g]) for key in _NUMBERS},
        "variance": variance if math.isfinite(variance) else None,
        **{key: getattr(found.floor, key)[:, g].tolist() for key in _PAIRS},
    }


def group_mean_of(records: Sequence[Mapping[str, Any]]) -> GroupMean:
    """The means again, one entry a record.

    Args:
        records: What ``group_mean_record`` returned.

    Returns:
        The means.

    Raises:
        ArgumentError: A record lacks a figure, or holds one that is not finite.

    Example:
        >>> floor = GroupFloor(*(np.array([[x], [y]]) for x, y in ((1.0, 0.0), (0.0, 0.0), (25.0, 25.0))))
        >>> found = GroupMean(*(np.array([x]) for x in (1.0, 1.0, 0.0, 49.0)), floor)
        >>> again = group_mean_of([group_mean_record(found, 0)])
        >>> bool(again.interval()[0][0] == found.interval()[0][0])
        True
    """
    for record in records:
        _check(record)
    unknown = float("nan")
    variances = [unknown if record["variance"] is None else record["variance"] for record in records]
    pairs = {key: np.array([record[key] for record in records], dtype=np.float64).reshape(-1, 2).T for key in _PAIRS}
    numbers = {key: np.array([record[key] for record in records], dtype=np.float64) for key in _NUMBERS}
    return GroupMean(
        n=numbers["n"],
        estimate=numbers["estimate"],
        variance=np.array(variances, dtype=np.float64),
        df=numbers["df"],
        floor=GroupFloor(pairs["mean"], pairs["spread"], pairs["size"]),
    )


def _check(record: Any) -> None:
    given = record if isinstance(record, dict) else {}
    for key in (*_NUMBERS, "variance", *_PAIRS):
        value = given.get(key)
        values = value if key in _PAIRS and isinstance(value, list) and len(value) == 2 else [value]
        if key == "variance" and value is None and key in given:
            continue
        if (key in _PAIRS) != (len(values) == 2) or not all(
            isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in values
        ):
            raise ArgumentError(f"record[{key!r}] must be finite, got {value!r}; write the report again.")
    mean = given["mean"][0] - given["mean"][1]
    if not math.isclose(given["estimate"], mean, rel_tol=1e-6, abs_tol=1e-6):
        raise ArgumentError(
            f"record['estimate'] is {given['estimate']:.6g}, and its samples in and out come to {mean:.6g}; write the"
            " report again."
        )
