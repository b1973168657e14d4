"""What a verdict is made from: estimates with one-sided bounds, one entry a group, larger being worse."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import divide
from lightning_memaudit.functional.impact import SizesNeeded, size_law
from lightning_memaudit.functional.uncertainty import form_of, joined, take

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray
    from lightning_memaudit.functional.memorization import PrevalenceBounds

__all__ = [
    "NOTHING",
    "Counts",
    "Estimate",
    "Evidence",
    "Known",
    "Needed",
    "Sizes",
    "by_factor",
    "by_models",
    "by_sizes",
    "p_values",
]

_POWER = 0.8


@dataclass(frozen=True, slots=True)
class Needed:
    """What would decide an undecided row if its estimate is right; None where nothing of the kind would, or unknown.

    Attributes:
        n: Examples, with the models there are.
        models: Models in the smaller arm, with the examples there are.
        factor: How many times as many of both.
    """

    n: int | None = None
    models: int | None = None
    factor: float | None = None


NOTHING = Needed()


class Evidence(Protocol):
    """Estimates and bounds, one entry a group."""

    @property
    def found(self) -> Any:
        """What has ``p_value(margin)`` of H0: value ≤ margin; None where nothing was sampled."""

    @property
    def estimate(self) -> FloatArray:
        """Estimates, float64[G]."""

    @property
    def is_exact(self) -> bool:
        """Whether the estimate is a known number, without sampling error."""

    @property
    def covers_models(self) -> BoolArray | None:
        """Whether the bounds allow for the choice of models, bool[G]; None where the question does not arise."""

    def bounds(self, alpha: float) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound, each one-sided at ``alpha``, float64[G]."""

    def needed(self, margin: float, alpha: float, rows: IntArray) -> list[Needed]:
        """What would decide each of some rows."""


class Sizes(Protocol):
    """How bounds come closer with more examples or models."""

    def __call__(self, margin: float, *, power: float) -> SizesNeeded:
        """What would decide, one entry a group."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Evidence from an estimate with half-widths: ``OneSided``, ``Excess``, ``GroupMean`` or ``Difference``.

    Attributes:
        found: The estimate.
        limits: What the value can be.
        sizes: Makes of the estimate and α what tells the sizes that would decide.
        covers_models: As for ``Evidence``.
    """

    found: Any
    limits: tuple[float, float]
    sizes: Callable[[Any, float], Sizes]
    covers_models: BoolArray | None = None
    is_exact: bool = False
    _bounds: dict[float, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    _sizes: dict[float, Sizes] = field(default_factory=dict)

    @property
    def estimate(self) -> FloatArray:
        """Estimates, float64[G]."""
        return np.asarray(self.found.estimate)

    def bounds(self, alpha: float) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound; kept, since several rules may ask."""
        if alpha not in self._bounds:
            down, up = self.found.half_widths(np.asarray(alpha))
            ends = self.estimate - down, self.estimate + up
            self._bounds[alpha] = np.clip(ends[0], *self.limits), np.clip(ends[1], *self.limits)
        return self._bounds[alpha]

    def needed(self, margin: float, alpha: float, rows: IntArray) -> list[Needed]:
        """What would decide each row."""
        if alpha not in self._sizes:
            self._sizes[alpha] = self.sizes(self.found, alpha)
        found = self._sizes[alpha](margin, power=_POWER)
        columns = (getattr(found, f"{what}_needed")[rows].tolist() for what in ("n", "models", "factor"))
        return [
            Needed(_whole(n), _whole(models), factor if math.isfinite(factor) else None)
            for n, models, factor in zip(*columns, strict=True)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Evidence of a prevalence from counts of examples.

    Attributes:
        found: The counts.
    """

    found: PrevalenceBounds
    covers_models: BoolArray | None = None
    is_exact: bool = False

    @property
    def estimate(self) -> FloatArray:
        """Shares, float64[G]."""
        return self.found.estimate

    def bounds(self, alpha: float) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound."""
        return self.found.lower(alpha), self.found.upper(alpha)

    def needed(self, margin: float, alpha: float, rows: IntArray) -> list[Needed]:
        """Unknown: more models would separate the scores, by how much depends on where they are."""
        return [NOTHING] * len(rows)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Numbers without sampling error, such as an ε that was accounted for.

    Attributes:
        estimate: The numbers, float64[G].
    """

    estimate: FloatArray
    found: None = None
    covers_models: BoolArray | None = None
    is_exact: bool = True

    def bounds(self, alpha: float) -> tuple[FloatArray, FloatArray]:
        """The numbers themselves."""
        return self.estimate, self.estimate

    def needed(self, margin: float, alpha: float, rows: IntArray) -> list[Needed]:
        """Nothing."""
        return [NOTHING] * len(rows)


def p_values(asked: Sequence[tuple[Evidence, IntArray, float]]) -> list[FloatArray]:
    """p-values of H0: value ≤ margin, all estimates of one form at once.

    Args:
        asked: Evidence, rows of it, and their margin.

    Returns:
        One array for each.
    """
    parts = [take(evidence.found, rows) for evidence, rows, _ in asked]
    by_form: dict[Hashable, list[int]] = {}
    for number, part in enumerate(parts):
        by_form.setdefault(form_of(part), []).append(number)
    found: list[FloatArray] = [np.empty(0)] * len(asked)
    for numbers in by_form.values():
        sizes = [len(asked[number][1]) for number in numbers]
        margins = np.repeat([asked[number][2] for number in numbers], sizes)
        p = joined([parts[number] for number in numbers]).p_value(margins)
        for number, own in zip(numbers, np.split(p, np.cumsum(sizes)[:-1]), strict=True):
            found[number] = own
    return found


def by_sizes(found: Any, alpha: float) -> Sizes:
    """Examples, models or both: for a drop or an error rate."""
    return size_law(found, alpha).needed


def by_models(found: Any, alpha: float) -> Sizes:
    """Models: for a figure of fixed examples."""
    factor = by_factor(found, alpha)

    def sizes(margin: float, *, power: float) -> SizesNeeded:
        needed = factor(margin, power=power)
        return SizesNeeded(needed.n_needed, needed.factor_needed * (found.df + 1), needed.factor_needed)

    return sizes


def by_factor(found: Any, alpha: float) -> Sizes:
    """How many times as much of everything, half-widths falling as its root: for a contrast."""
    down, up = found.half_widths(np.asarray(alpha))
    z = float(stats.norm.isf(alpha))

    def sizes(margin: float, *, power: float) -> SizesNeeded:
        distance = found.estimate - margin
        reach = np.where(distance > 0, down, up) * (z + float(stats.norm.ppf(power))) / z
        factor = np.maximum(divide(reach**2, distance**2), 1.0)
        unknown = np.full_like(factor, np.nan)
        return SizesNeeded(unknown, unknown, factor)

    return sizes


def _whole(number: float) -> int | None:
    return math.ceil(number) if math.isfinite(number) else None
