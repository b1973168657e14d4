"""What a verdict is made from: estimates with one-sided bounds, one entry a group, larger being worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lightning_memaudit.functional.uncertainty import form_of, joined, take
from lightning_memaudit.record.estimates import NOTHING, Needed

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray

__all__ = ["Evidence", "Known", "p_values"]


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
