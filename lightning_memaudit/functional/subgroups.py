"""Values by group in the vocabulary of Fairlearn: overall, by group, worst group, difference, ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import (
    Array,
    FloatArray,
    IntArray,
    argument_error,
    as_array,
    as_choice,
    as_indices,
    as_positive_int,
    as_probability,
    divide,
    element_error,
)
from lightning_memaudit.functional.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "GroupAccuracy",
    "GroupLabel",
    "as_groups",
    "by_group",
    "by_group_and_label",
    "difference",
    "group_accuracy",
    "intersection",
    "ratio",
    "worst_group",
]

Comparison = Literal["between_groups", "to_overall"]


@dataclass(frozen=True, slots=True)
class GroupLabel:
    """Mean values for each group and label.

    Attributes:
        n: Number of examples, int64[G, L].
        value: Their mean, float64[G, L]; NaN where there is none. For outcomes it is the recall of the label.
    """

    n: IntArray
    value: FloatArray


@dataclass(frozen=True, slots=True)
class GroupAccuracy:
    """Accuracy of one model by group, one entry a group; no group is left out because it is small.

    Attributes:
        group: Group codes 0 to G − 1, int64[G].
        n: Number of examples, int64[G].
        value: Accuracy, float64[G]; NaN without examples.
        low: Lower end of Wilson's interval.
        high: Upper end.
        too_few: Whether the interval is wider than asked for (true without examples), bool[G].
        n_needed: Examples at which it would be as narrow at this accuracy, int64[G].
    """

    group: IntArray
    n: IntArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    too_few: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    n_needed: IntArray


def as_groups(groups: Array, *, size: int, n_groups: int | None = None, name: str = "groups") -> tuple[IntArray, int]:
    """Check group codes.

    Args:
        groups: Code of each example [size], whole numbers of at least 0.
        size: Required length.
        n_groups: G; ``None``: the largest code plus one. Groups without examples are legal.
        name: Name of the argument, for the message.

    Returns:
        The codes and G.

    Raises:
        ArgumentError: Another length, a negative code, or a code of at least ``n_groups``.

    Example:
        >>> as_groups([0, 2], size=2)
        (array([0, 2]), 3)
    """
    codes = as_indices(groups, name=name, size=size)
    if codes.size and codes.min() < 0:
        raise element_error(name, codes, codes < 0, "codes from 0 are needed; give missing values a code of their own")
    if n_groups is None:
        return codes, int(codes.max(initial=-1)) + 1
    total = as_positive_int(n_groups, name=f"n_{name}")
    if codes.size and codes.max() >= total:
        raise element_error(name, codes, codes >= total, f"codes below n_{name}={total} are needed")
    return codes, total


def by_group(values: Array, groups: Array, *, n_groups: int) -> FloatArray:
    """Mean of a value by group: accuracy from outcomes, loss from losses, selection rate from predictions.

    Args:
        values: One an example [n], or [M, n] for M models, which are averaged first.
        groups: Group of each example [n], in [0, n_groups).
        n_groups: G.

    Returns:
        float64[G]; NaN for a group without examples, and for one that holds a NaN.

    Raises:
        ArgumentError: Shapes differ, or codes are out of range.

    Example:
        >>> by_group([1, 0, 1], [0, 0, 2], n_groups=3)
        array([0.5, nan, 1. ])
    """
    array = as_array(values, name="values")
    if array.ndim not in (1, 2):
        raise argument_error("values", array, "shape [examples] or [models, examples] is needed")
    codes, total = as_groups(groups, size=array.shape[-1], n_groups=n_groups)
    mean = array if array.ndim == 1 else array.mean(axis=0)
    sums = np.bincount(codes, weights=mean, minlength=total)
    return divide(np.asarray(sums, dtype=np.float64), np.bincount(codes, minlength=total).astype(np.float64))


def worst_group(values: Array, groups: Array | None = None, *, n_groups: int | None = None) -> float:
    """Smallest value of any group that has one.

    Args:
        values: One a group [G], such as ``by_group`` returns; with ``groups``, one an example.
        groups: Group of each example [n].
        n_groups: G; ``None``: the largest code plus one.

    Returns:
        The minimum over groups with a value; NaN when there is none.

    Raises:
        ArgumentError: As ``by_group``.

    Example:
        >>> worst_group([1, 0, 1, 1], [0, 0, 1, 1])
        0.5
    """
    return _reduce(_means(values, groups, n_groups=n_groups)[0], np.min, at_least=1)


def difference(
    values: Array,
    groups: Array | None = None,
    *,
    n_groups: int | None = None,
    method: Comparison = "between_groups",
    overall: float | None = None,
) -> float:
    """Largest difference between two groups, or between a group and the whole.

    Its interval cannot reach 0, since it is never negative: it is a description, not a test.

    Args:
        values: One a group [G]; with ``groups``, one an example.
        groups: Group of each example [n].
        n_groups: G; ``None``: the largest code plus one.
        method: ``"between_groups"`` (largest minus smallest) or ``"to_overall"`` (largest distance from the whole).
        overall: Value of the whole, for ``"to_overall"`` when ``values`` has one a group.

    Returns:
        The difference over groups that have a value; NaN with fewer than two (one, for ``"to_overall"``).

    Raises:
        ArgumentError: As ``by_group``, an unknown method, or ``overall`` is missing.

    Example:
        >>> difference([0.9, 0.7, float("nan")])
        0.2...
    """
    means, whole = _means(values, groups, n_groups=n_groups)
    if _is_between(method):
        return _reduce(means, np.ptp, at_least=2)
    center = _overall(whole, overall)
    return _reduce(np.abs(means - center), np.max, at_least=1)


def ratio(
    values: Array,
    groups: Array | None = None,
    *,
    n_groups: int | None = None,
    method: Comparison = "between_groups",
    overall: float | None = None,
) -> float:
    """Smallest ratio between two groups, or between a group and the whole; at most 1 for values of at least 0.

    Args:
        values: One a group [G], at least 0; with ``groups``, one an example.
        groups: Group of each example [n].
        n_groups: G; ``None``: the largest code plus one.
        method: ``"between_groups"`` (smallest over largest) or ``"to_overall"`` (over or under the whole).
        overall: Value of the whole, for ``"to_overall"`` when ``values`` has one a group.

    Returns:
        The ratio over groups that have a value; NaN with too few, or when all are 0.

    Raises:
        ArgumentError: As ``difference``, or a negative value.

    Example:
        >>> ratio([0.8, 0.4])
        0.5
    """
    means, whole = _means(values, groups, n_groups=n_groups)
    if (means < 0).any():
        raise element_error("values", means, means < 0, "means of at least 0 are needed for a ratio; use difference")
    if _is_between(method):
        top = _reduce(means, np.max, at_least=2)
        return _reduce(means, np.min, at_least=2) / top if top > 0 else float("nan")
    center = np.full_like(means, _overall(whole, overall))
    return _reduce(np.fmin(divide(means, center), divide(center, means)), np.min, at_least=1)


def by_group_and_label(values: Array, groups: Array, labels: Array, *, n_groups: int, n_labels: int) -> GroupLabel:
    """Mean of a value for each group and label: accuracy by group alone mostly shows which labels a group has.

    Args:
        values: One an example [n], or [M, n] for M models. Outcomes give recall, losses give loss.
        groups: Group of each example [n], in [0, n_groups).
        labels: Label of each example [n], in [0, n_labels).
        n_groups: G.
        n_labels: L.

    Returns:
        Counts and means [G, L].

    Raises:
        ArgumentError: As ``by_group``.

    Example:
        >>> by_group_and_label([1, 0, 1], [0, 0, 1], [0, 1, 1], n_groups=2, n_labels=2).value
        array([[ 1.,  0.],
               [nan,  1.]])
    """
    codes = intersection(groups, labels, n_labels=n_labels)
    as_groups(groups, size=len(codes), n_groups=n_groups)
    total = n_groups * n_labels
    value = by_group(values, codes, n_groups=total)
    shape = (n_groups, n_labels)
    return GroupLabel(np.bincount(codes, minlength=total).reshape(shape), value.reshape(shape))


def intersection(groups: Array, labels: Array, *, n_labels: int) -> IntArray:
    """Codes of groups crossed with labels (or with other groups, Fairlearn's control features).

    Args:
        groups: Group of each example [n].
        labels: Label of each example [n], in [0, n_labels).
        n_labels: L.

    Returns:
        ``group * n_labels + label``, int64[n].

    Raises:
        ArgumentError: Lengths differ, or a code is out of range.

    Example:
        >>> intersection([0, 1], [2, 0], n_labels=3)
        array([2, 3])
    """
    column = as_array(groups, name="groups", ndim=1, dtype=None)
    codes, _ = as_groups(column, size=len(column))
    other, total = as_groups(labels, size=len(column), n_groups=n_labels, name="labels")
    return codes * total + other


def group_accuracy(
    correct: Array, groups: Array, *, n_groups: int, level: float = 0.95, width: float = 0.2
) -> GroupAccuracy:
    """Accuracy of one model by group with Wilson's interval, and the size at which the group would say something.

    Args:
        correct: Outcomes [n], 0 or 1.
        groups: Group of each example [n], in [0, n_groups).
        n_groups: G.
        level: Two-sided confidence level.
        width: Widest interval that says something.

    Returns:
        One entry a group.

    Raises:
        ArgumentError: Outcomes other than 0 and 1, or malformed groups or options.

    Example:
        >>> found = group_accuracy([1] * 9 + [0], [0] * 10, n_groups=2)
        >>> found.too_few, found.n_needed
        (array([ True,  True]), array([37, 93]))
    """
    outcomes = as_array(correct, name="correct", ndim=1)
    wrong = ~np.isin(outcomes, (0.0, 1.0))
    if wrong.any():
        raise element_error("correct", outcomes, wrong, "0 or 1 is needed")
    as_probability(width, name="width")
    codes, total = as_groups(groups, size=len(outcomes), n_groups=n_groups)
    n = np.bincount(codes, minlength=total)
    right: FloatArray = np.bincount(codes, weights=outcomes, minlength=total).astype(np.float64)
    value = divide(right, n.astype(np.float64))
    low, high = wilson(right, n, level=level)
    # Wilson's width is at most w where n + z² solves a quadratic in 1 / (n + z²); without examples, at one half.
    z2 = float(stats.norm.ppf(0.5 + level / 2)) ** 2
    p = np.nan_to_num(value, nan=0.5)
    spread = 4 * z2 * p * (1 - p)
    size = (spread + np.sqrt(spread**2 + 4 * width**2 * z2**2 * (1 - 4 * p * (1 - p)))) / (2 * width**2)
    return GroupAccuracy(
        group=np.arange(total),
        n=n,
        value=value,
        low=low,
        high=high,
        too_few=~(high - low <= width),
        n_needed=np.ceil(np.maximum(size - z2, 1.0) - 1e-9).astype(np.int64),
    )


def _means(values: Array, groups: Array | None, *, n_groups: int | None) -> tuple[FloatArray, float | None]:
    """Values by group, and that of the whole where it can be known."""
    array = as_array(values, name="values")
    if groups is None:
        if array.ndim != 1:
            raise argument_error("values", array, "shape [groups] is needed, or groups with the values of examples")
        return np.asarray(array), None
    if np.isnan(array).any():
        raise element_error("values", array, np.isnan(array), "numbers are needed; leave out examples without one")
    codes, total = as_groups(groups, size=array.shape[-1] if array.ndim else 0, n_groups=n_groups)
    return by_group(array, codes, n_groups=max(total, 1)), float(array.mean()) if array.size else float("nan")


def _is_between(method: Comparison) -> bool:
    as_choice(method, name="method", options=get_args(Comparison))
    return method == "between_groups"


def _overall(whole: float | None, overall: float | None) -> float:
    center = whole if overall is None else overall
    if center is None:
        raise argument_error("overall", None, "a number is needed with method='to_overall' and one value a group")
    return float(center)


def _reduce(means: FloatArray, function: Callable[[FloatArray], float], *, at_least: int) -> float:
    seen = means[~np.isnan(means)]
    return float(function(seen)) if len(seen) >= at_least else float("nan")
