"""Error rate of an arm by group, and by how much a group is worse than the whole, for models and examples at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.functional.checks import argument_error, as_correct
from lightning_memaudit.functional.subgroups import as_groups
from lightning_memaudit.functional.uncertainty import Excess, TwoWay, against_rest, assemble, example_means, summarise

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import Array, IntArray


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Error rates, one entry a group.

    Attributes:
        error: One minus the accuracy; its one-sided bounds are ``OneSided(error, one_way=True)``.
        gap: Accuracy over all examples minus that of the group; positive where the group is worse off.
        n_missing: Examples that no model is judged on, which are in no figure, int64[G].
        n_models: Models of the arm.
    """

    error: TwoWay
    gap: Excess[TwoWay]
    n_missing: IntArray
    n_models: int


def error_rate(correct: Array, groups: Array, *, n_groups: int | None = None) -> ErrorRate:
    """Error rate of each group, with intervals for a claim about new models and new examples.

    An error rate is the drop from a model that is always right, so its interval is that of ``two_way``: where few
    examples are wrong it is nearly Wilson's (Tango's with no example gained), with the variance of models added.

    Args:
        correct: Outcomes [K, n] in [0, 1]; NaN where a model is not judged on an example.
        groups: Group of each example [n], codes of at least 0.
        n_groups: G; ``None``: the largest code plus one.

    Returns:
        One entry a group.

    Raises:
        ArgumentError: Malformed outcomes or groups, or no example at all.

    Example:
        >>> found = error_rate(np.ones((1, 50)), np.zeros(50, dtype=int))
        >>> print(f"{found.error.estimate[0]:.0f} {found.error.interval(0.95)[1][0]:.4f}")
        0 0.0713
    """
    outcomes = as_correct(correct, name="correct", min_models=1)
    codes, total = as_groups(groups, size=outcomes.shape[1], n_groups=n_groups)
    if total == 0:
        raise argument_error("groups", codes, "the groups of at least one example are needed")
    wrong = ~outcomes if outcomes.dtype == np.bool_ else 1 - outcomes
    there = ~np.isnan(example_means(wrong))
    missing = np.bincount(codes[~there], minlength=total)
    if not there.all():
        wrong, codes = wrong[:, there], codes[there]
    seen, parts = summarise([wrong], [1.0], codes, n_groups=total, paired=False)
    return ErrorRate(
        error=assemble(seen, parts, scale=1.0),
        gap=against_rest(seen, parts, scale=1.0),
        n_missing=missing,
        n_models=len(outcomes),
    )
