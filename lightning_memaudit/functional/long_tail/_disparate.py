"""Who pays: optimal error and cost of limited memorization for each of several groups of a population."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from lightning_memaudit.functional.checks import (
    FloatArray,
    argument_error,
    as_choice,
    as_number,
    as_positive_int,
    as_samples,
)
from lightning_memaudit.functional.long_tail._dp_prediction import Adjacency, Bound, prediction_bound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.functional.long_tail._marginals import Marginal

__all__ = ["DisparateCost", "Group", "GroupSize", "disparate_cost", "disparate_dp_cost"]

GroupSize = Literal["binomial", "fixed"]


@dataclass(frozen=True, slots=True)
class Group:
    """A group of a population, whose points are its own.

    Attributes:
        share: q, its share of the population, in (0, 1].
        marginal: The law of the frequency of one of its points within the group.
    """

    share: float
    marginal: Marginal


@dataclass(frozen=True, slots=True)
class DisparateCost:
    """Errors by group and in total.

    Attributes:
        groups: Names of the G groups.
        share: Shares, float64[G].
        n_samples: Expected number of samples of each, float64[G].
        optimal_error: Error that cannot be avoided within each group, float64[G].
        cost: Excess error within each group, float64[G].
        total_optimal_error: Σ share · optimal_error.
        total_cost: Σ share · cost.
    """

    groups: tuple[str, ...]
    share: FloatArray
    n_samples: FloatArray
    optimal_error: FloatArray
    cost: FloatArray
    total_optimal_error: float
    total_cost: float


def disparate_cost(
    groups: Mapping[str, Group], n_samples: int, *, n_classes: int, gamma: float, group_size: GroupSize = "binomial"
) -> DisparateCost:
    """Cost of memorizing no example by more than γ, for each group (Feldman 2019, the section on disparate effects).

    Args:
        groups: Groups by name; their shares sum to 1.
        n_samples: n, of all groups together.
        n_classes: m, at least 2.
        gamma: γ, largest memorization of an example, in [0, 1].
        group_size: ``"binomial"``: n_g is Binomial(n, q), exactly, at any size. ``"fixed"``: n_g is q n, rounded, as in
            the paper's figures; for large groups the two agree.

    Returns:
        Optimal error and cost by group and in total.

    Raises:
        ArgumentError: Shares do not sum to 1, or a number or name is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal
        >>> from lightning_memaudit.functional.long_tail import zipf
        >>> law = marginal(zipf(5_000))
        >>> groups = {"many": Group(5 / 6, law), "few": Group(1 / 6, law)}
        >>> found = disparate_cost(groups, 60_000, n_classes=10, gamma=0.5)
        >>> found.cost.round(4), round(found.total_cost, 4)
        (array([0.0146, 0.0353]), 0.0181)
    """
    guess = 1 / as_positive_int(n_classes, name="n_classes", minimum=2)
    lack = max(1 - guess - as_number(gamma, name="gamma", most=1.0), 0.0)
    return _by_group(groups, n_samples, guess=guess, lack=lack, group_size=group_size)


def disparate_dp_cost(
    groups: Mapping[str, Group],
    n_samples: int,
    *,
    n_classes: int,
    epsilon: float,
    delta: float = 0.0,
    bound: Bound = "paper",
    adjacency: Adjacency = "add-remove",
    group_size: GroupSize = "binomial",
) -> DisparateCost:
    """Cost of (ε, δ)-differential privacy on singletons, for each group.

    Args:
        groups: Groups by name; their shares sum to 1.
        n_samples: n, of all groups together.
        n_classes: m, at least 2.
        epsilon: ε, at least 0.
        delta: δ, in [0, 1].
        bound: As in ``prediction_bound``.
        adjacency: As in ``prediction_bound``.
        group_size: As in ``disparate_cost``.

    Returns:
        Optimal error and cost by group and in total.

    Raises:
        ArgumentError: Shares do not sum to 1, or a number or name is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal
        >>> from lightning_memaudit.functional.long_tail import zipf
        >>> groups = {"all": Group(1.0, marginal(zipf(5_000)))}
        >>> round(disparate_dp_cost(groups, 10_000, n_classes=10, epsilon=np.log(6)).total_cost, 6)
        0.035301
    """
    most = prediction_bound(epsilon, delta, n_classes=n_classes, bound=bound, adjacency=adjacency)
    return _by_group(groups, n_samples, guess=1 / n_classes, lack=1 - most, group_size=group_size)


def _by_group(
    groups: Mapping[str, Group], n_samples: int, *, guess: float, lack: float, group_size: GroupSize
) -> DisparateCost:
    n = as_samples(n_samples)
    as_choice(group_size, name="group_size", options=get_args(GroupSize))
    share = np.array(
        [as_number(group.share, name=f"groups[{name!r}].share", most=1.0) for name, group in groups.items()]
    )
    if not (share > 0).all() or not math.isclose(share.sum(), 1.0, abs_tol=1e-9):
        raise argument_error("groups", share.tolist(), "shares above 0 that sum to 1 are needed")
    masses = np.array([_masses(group, n, group_size) for group in groups.values()])
    if np.isnan(masses).any():
        warnings.warn(f"disparate: a marginal does not resolve {n} samples, so NaN.", RuntimeWarning, stacklevel=3)
    optimal, cost = (1 - guess) * masses[:, 0], np.zeros(len(share)) if lack == 0 else lack * masses[:, 1]
    return DisparateCost(tuple(groups), share, share * n, optimal, cost, float(share @ optimal), float(share @ cost))


def _masses(group: Group, n: int, group_size: GroupSize) -> tuple[float, float]:
    """Expected mass within the group of its points never seen and seen once.

    A sample hits a point with probability qα, so the size of the group needs no sum: the masses are N E[α (1 − qα)^n]
    and N n q E[α² (1 − qα)^(n−1)].
    """
    law, share, size = group.marginal, float(group.share), n
    if group_size == "fixed":
        share, size = 1.0, round(group.share * n)
    missing = law.n_points * math.exp(law.log_moment(1, size, thinning=share))
    if size == 0:
        return missing, 0.0
    return missing, law.n_points * size * share * math.exp(law.log_moment(2, size - 1, thinning=share))
