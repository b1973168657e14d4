"""The kinds of estimates that reports keep and gates judge, each with all that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.uncertainty import Excess, OneSided
from lightning_memaudit.record.estimates.memorization_rows import (
    mean_from_rows,
    mean_to_row,
    prevalence_from_rows,
    prevalence_to_row,
)
from lightning_memaudit.record.estimates.needed import NOTHING, Needed
from lightning_memaudit.record.estimates.sizes import Sizes, by_factor, by_models, by_sizes, needed_of
from lightning_memaudit.record.estimates.two_way_rows import (
    contrast_from_rows,
    contrast_to_row,
    two_way_from_rows,
    two_way_to_row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray

__all__ = ["DROP", "ERROR", "EXCESS", "GAP", "MEAN", "PREVALENCE", "Estimate", "Kind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of estimate is written, restored and judged.

    Attributes:
        name: Its name in a row's ``statistics``.
        to_row: Writes the row of a group; None where there is no interval.
        from_rows: Restores and checks the estimate, one entry a row; an ``ArgumentError`` says what is wrong.
        judged: What bounds and p-values are taken from: one-sided where decisions need it.
        limits: What the value can be.
        sizes: Makes of what is judged and α what tells the sizes that would decide; None where that is unknown.
        covers_models: Whether the bounds of an estimate allow for the choice of models.
    """

    name: str
    to_row: Callable[[Any, int], dict[str, Any] | None]
    from_rows: Callable[[Sequence[Mapping[str, Any]]], Any]
    judged: Callable[[Any], Any]
    limits: tuple[float, float]
    sizes: Callable[[Any, float], Sizes] | None
    covers_models: Callable[[Any], BoolArray | None] = lambda found: None  # noqa: ARG005

    def of(self, found: Any) -> Estimate:
        """The estimate that a section found, one entry a group."""
        return Estimate(self.judged(found), self.limits, self.sizes, covers_models=self.covers_models(found))

    def of_rows(self, rows: Sequence[Mapping[str, Any]]) -> Estimate:
        """The estimate again, from its rows.

        Raises:
            ArgumentError: A row lacks a figure, or holds one that is not finite or of the wrong type.
        """
        return self.of(self.from_rows(rows))


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """An estimate with its bounds, one entry a group; larger is worse.

    Attributes:
        found: What has ``estimate`` and ``p_value(margin)`` of H0: value ≤ margin.
        limits: What the value can be.
        sizes: As for ``Kind``.
        covers_models: Whether the bounds allow for the choice of models, bool[G]; None where the question does not
            arise.
        is_exact: Whether the estimate is a known number, without sampling error.
    """

    found: Any
    limits: tuple[float, float]
    sizes: Callable[[Any, float], Sizes] | None
    covers_models: BoolArray | None = None
    is_exact: bool = False
    _bounds: dict[float, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    _sizes: dict[float, Sizes] = field(default_factory=dict)

    @property
    def estimate(self) -> FloatArray:
        """Estimates, float64[G]."""
        return np.asarray(self.found.estimate)

    def bounds(self, alpha: float) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound, each one-sided at ``alpha``, float64[G]; kept, since several rules may ask."""
        if alpha not in self._bounds:
            if hasattr(self.found, "half_widths"):
                down, up = self.found.half_widths(np.asarray(alpha))
                ends = self.estimate - down, self.estimate + up
            else:
                ends = self.found.lower(alpha), self.found.upper(alpha)
            self._bounds[alpha] = np.clip(ends[0], *self.limits), np.clip(ends[1], *self.limits)
        return self._bounds[alpha]

    def needed(self, margin: float, alpha: float, rows: IntArray) -> list[Needed]:
        """What would decide each of some rows."""
        if self.sizes is None:
            return [NOTHING] * len(rows)
        if alpha not in self._sizes:
            self._sizes[alpha] = self.sizes(self.found, alpha)
        return needed_of(self._sizes[alpha], margin, rows)


def _contrast(found: Any, *, one_way: bool = False) -> Excess[OneSided]:
    return Excess(found.share, OneSided(found.group, one_way), OneSided(found.rest, one_way))


#: Accuracy that a treatment takes, from a ``TwoWay``.
DROP = Kind(
    covers_models=lambda found: found.covers_models,
    name="drop",
    to_row=two_way_to_row,
    from_rows=two_way_from_rows,
    judged=OneSided,
    limits=(-1.0, 1.0),
    sizes=by_sizes,
)
#: Share of wrong answers, from a ``TwoWay``.
ERROR = Kind(
    covers_models=lambda found: found.covers_models,
    name="error",
    to_row=two_way_to_row,
    from_rows=two_way_from_rows,
    judged=lambda found: OneSided(found, one_way=True),
    limits=(0.0, 1.0),
    sizes=by_sizes,
)
#: Drop of a group minus that over all examples, from an ``Excess``.
EXCESS = Kind(
    covers_models=lambda found: found.group.covers_models,
    name="excess",
    to_row=contrast_to_row,
    from_rows=contrast_from_rows,
    judged=_contrast,
    limits=(-2.0, 2.0),
    sizes=by_factor,
)
#: Error rate of a group minus that over all examples, from an ``Excess``.
GAP = Kind(
    covers_models=lambda found: found.group.covers_models,
    name="gap",
    to_row=contrast_to_row,
    from_rows=contrast_from_rows,
    judged=lambda found: _contrast(found, one_way=True),
    limits=(-2.0, 2.0),
    sizes=by_factor,
)
#: Mean memorization score, a ``GroupMean``.
MEAN = Kind(
    name="mean",
    to_row=mean_to_row,
    from_rows=mean_from_rows,
    judged=lambda found: found,
    limits=(-1.0, 1.0),
    sizes=by_models,
)
#: Share of memorized examples, a ``PrevalenceBounds``: how far more models separate scores depends on where they are.
PREVALENCE = Kind(
    name="prevalence",
    to_row=prevalence_to_row,
    from_rows=prevalence_from_rows,
    judged=lambda found: found,
    limits=(0.0, 1.0),
    sizes=None,
)
