"""Mean of a group minus the mean over all examples, the group included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from lightning_memaudit.functional.checks import as_probability
from lightning_memaudit.functional.uncertainty._inversion import Tail, one_sided_p_value
from lightning_memaudit.functional.uncertainty._one_sided import OneSided
from lightning_memaudit.functional.uncertainty._two_way import TwoWay, assemble

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_memaudit.functional.checks import FloatArray
    from lightning_memaudit.functional.intervals import Interval
    from lightning_memaudit.functional.uncertainty._crossed import Crossed
    from lightning_memaudit.functional.uncertainty._flips import Flips
    from lightning_memaudit.functional.uncertainty._two_way import Form

Part = TypeVar("Part", TwoWay, OneSided)


@dataclass(frozen=True, slots=True)
class Excess(Generic[Part]):
    """Group minus whole, one entry a group.

    The group is part of the whole: its weight on example i is ``1[g] / n_g - 1 / n``, which is ``(1 - n_g / n)`` times
    the mean of the group minus that of the rest. Both are estimated as ``two_way`` does and joined by square-and-add;
    the models move both at once.

    Attributes:
        share: ``1 - n_g / n``, float64[G].
        group: The groups, with the spread of models of the difference of both means.
        rest: The examples of all other groups, in the same form.
    """

    share: FloatArray
    group: Part
    rest: Part

    @property
    def n(self) -> FloatArray:
        """Number of examples in the group, float64[G]."""
        return self.group.n

    @property
    def estimate(self) -> FloatArray:
        """Excess, float64[G]; 0 for a group that holds every example, NaN for one without."""
        return self.share * (self.group.estimate - np.where(self.share > 0, self.rest.estimate, 0.0))

    def half_widths(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Half-widths down and up.

        Args:
            tail: One-sided error, a scalar array or one for each group.

        Returns:
            Both, float64[G]; NaN for a group that holds every example.
        """
        (group_down, group_up), (rest_down, rest_up) = (part.example_squares(tail) for part in (self.group, self.rest))
        models = self.group.model_squares(tail, np.maximum(self.group.example_df, self.rest.example_df))
        return self.share * np.sqrt(group_down + rest_up + models), self.share * np.sqrt(group_up + rest_down + models)

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided interval; each end is a one-sided bound at ``(1 + level) / 2``.

        Args:
            level: Confidence level.

        Returns:
            ``(low, high)``, float64[G].

        Raises:
            ArgumentError: ``level`` is not in (0, 1).
        """
        down, up = self.half_widths(np.asarray((1 - as_probability(level, name="level")) / 2))
        return self.estimate - down, self.estimate + up

    def p_value(self, margin: float | FloatArray = 0.0, *, alternative: Tail = "greater") -> FloatArray:
        """One-sided p-value by inverting the interval.

        Args:
            margin: Excess under the hypothesis, one or float64[G].
            alternative: ``"greater"`` tests H0: excess ≤ margin, ``"less"`` H0: excess ≥ margin.

        Returns:
            float64[G]; NaN where there is no interval.
        """
        return one_sided_p_value(self, margin, alternative=alternative)


def against_rest(
    seen: Flips, parts: Sequence[tuple[float, Crossed]], *, scale: float, form: Form = "auto"
) -> Excess[TwoWay]:
    """Mean of each group minus the mean over all examples.

    Args:
        seen: Differences by group.
        parts: Weights and crossed sums of each independent draw of models.
        scale: Largest difference that an example can have.
        form: As for ``two_way``.

    Returns:
        One entry a group.

    Example:
        >>> from lightning_memaudit.functional.uncertainty import summarise
        >>> arms, groups = [np.ones((3, 4)), np.eye(3, 4)], np.array([0, 0, 0, 1])
        >>> found, parts = summarise(arms, (1, -1), groups, n_groups=2, paired=False)
        >>> against_rest(found, parts, scale=1.0).estimate
        array([-0.08333333,  0.25      ])
    """
    others = [(weight, table.rest()) for weight, table in parts]
    return Excess(
        share=1 - seen.n / max(float(seen.n.sum()), 1.0),
        group=assemble(seen, parts, scale=scale, form=form, other=others),
        rest=assemble(seen.rest(), others, scale=scale, form=form),
    )
