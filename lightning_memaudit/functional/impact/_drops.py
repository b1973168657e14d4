"""Accuracy drop of each group: raw, against the whole, and relative, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from lightning_memaudit.functional.checks import (
    Array,
    BoolArray,
    FloatArray,
    IntArray,
    argument_error,
    as_array,
    as_choice,
    as_correct,
    as_probability,
    element_error,
)
from lightning_memaudit.functional.impact._alternative_intervals import bootstrap_interval, vote_interval
from lightning_memaudit.functional.subgroups import as_groups
from lightning_memaudit.functional.uncertainty import (
    Alternative,
    Excess,
    Form,
    TwoWay,
    against_rest,
    assemble,
    example_means,
    relative_interval,
    summarise,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

IntervalMethod = Literal["two-way", "normal", "bootstrap", "tango", "newcombe"]


@dataclass(frozen=True, slots=True)
class DropResult:
    """Drop of each group from the base arm to the treated one; one entry a group.

    A group without examples has n = 0 and NaN throughout. Every interval is two-sided at ``level`` and for its group
    alone; each end is a one-sided bound at ``(1 + level) / 2``. ``None`` stands for "not asked for".

    Attributes:
        group: Group codes 0 to G − 1, int64[G].
        n: Examples with an outcome in both arms, int64[G].
        n_missing: Examples without, which are in no figure, int64[G].
        base: Mean accuracy of the base arm, float64[G].
        treated: Mean accuracy of the treated arm.
        drop: ``base - treated``; positive where the treatment costs accuracy.
        low: Lower end of the interval of ``drop``.
        high: Upper end.
        excess: ``drop`` minus the drop over all examples.
        excess_low: Lower end of its two-way interval; NaN when there is one group only.
        excess_high: Upper end.
        relative: ``drop / base``.
        relative_low: Lower end of its Fieller interval; NaN where the base accuracy cannot be told from 0.
        relative_high: Upper end.
        method: Form of the interval of ``drop``, one a group: ``"two-way"`` (normal form), ``"tango"`` (few examples
            differ, or an arm has one model), another that was asked for, or ``"none"`` (no examples).
        covers_models: Whether the interval of ``drop`` allows for the choice of models in both arms, bool[G]: not with
            one model in an arm, nor for majority votes.
        n_models: Models in the base and in the treated arm.
        level: Confidence level.
        two_way: The two-way estimate of ``drop``, for other levels and p-values.
        against_rest: That of ``excess``.
    """

    group: IntArray
    n: IntArray
    n_missing: IntArray
    base: FloatArray
    treated: FloatArray
    drop: FloatArray
    low: FloatArray
    high: FloatArray
    excess: FloatArray
    excess_low: FloatArray
    excess_high: FloatArray
    relative: FloatArray
    relative_low: FloatArray
    relative_high: FloatArray
    method: tuple[str, ...]
    covers_models: BoolArray
    n_models: tuple[int, int]
    level: float
    two_way: TwoWay
    against_rest: Excess[TwoWay]

    def p_value(self, margin: float = 0.0, *, alternative: Alternative = "two-sided") -> FloatArray:
        """p-value of each group's drop by itself, from the two-way form whatever interval was asked for.

        Args:
            margin: Drop under the hypothesis.
            alternative: ``"greater"`` tests H0: drop ≤ margin, ``"less"`` H0: drop ≥ margin.

        Returns:
            float64[G]; NaN for a group without examples. Adjust with ``adjust_p_values``.
        """
        return self.two_way.p_value(margin, alternative=alternative)


def accuracy_drop(
    base: Array,
    treated: Array,
    groups: Array,
    *,
    paired: bool = False,
    interval: IntervalMethod = "two-way",
    level: float = 0.95,
    n_groups: int | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> DropResult:
    """Drop in accuracy of each group, with an interval for a claim about new models and new examples.

    The default is the two-way form of ``two_way.TwoWay``: models and examples are both random. An interval over models
    alone gets worse with more models (.78 at 30 models and 50 examples for a nominal .95), one over examples alone
    covers .895 at 5 models and 200 examples. Where few examples differ it is Tango's, with the variance of models
    added; ``method`` says so for each group.

    Args:
        base: Outcomes of the base arm [M0, n] in [0, 1]; NaN where a model is not to be judged on an example, such as
            one that it trained on.
        treated: Outcomes of the treated arm [M1, n] on the same examples.
        groups: Group of each example [n], codes of at least 0.
        paired: Row k of both arms belongs together (a pruned copy of base model k, or one with its subset and seed).
        interval: Of ``drop``: ``"two-way"``; ``"normal"``, its normal form everywhere; ``"bootstrap"``, for
            comparison; ``"tango"`` or ``"newcombe"`` on majority votes. Excess and relative drop always use the
            two-way form.
        level: Two-sided confidence level.
        n_groups: G; ``None``: the largest code plus one. Groups without examples are reported, not left out.
        n_resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.

    Returns:
        One entry a group.

    Raises:
        ArgumentError: Shapes differ, codes are negative, paired arms of different sizes, or an option is unknown.

    Example:
        >>> found = accuracy_drop(np.ones((4, 50)), np.ones((3, 50)), np.zeros(50, dtype=int))
        >>> print(f"{found.drop[0]} {found.low[0]:.4f} {found.high[0]:.4f} {found.method[0]}")
        0.0 -0.0713 0.0713 tango
    """
    as_choice(interval, name="interval", options=get_args(IntervalMethod))
    first, second = (as_correct(x, name=name, min_models=1) for x, name in ((base, "base"), (treated, "treated")))
    form: Form = "normal" if interval == "normal" else "auto"
    found, arms, codes = _drop(first, second, groups, paired=paired, level=level, n_groups=n_groups, form=form)
    if interval == "two-way":  # with few models the normal form goes beyond what a drop of accuracies can be
        return replace(
            found,
            low=np.maximum(found.low, -1.0),
            high=np.minimum(found.high, 1.0),
            excess_low=np.maximum(found.excess_low, -2.0),
            excess_high=np.minimum(found.excess_high, 2.0),
        )
    if interval == "normal":
        return found
    total = len(found.group)
    if interval == "bootstrap":
        low, high = bootstrap_interval(
            *arms, codes, n_groups=total, paired=paired, level=level, n_resamples=n_resamples, seed=seed
        )
    else:
        votes = [example_means(arm) for arm in arms]
        low, high = vote_interval(votes[0], votes[1], codes, n_groups=total, method=interval, level=level)
    return replace(
        found,
        low=low,
        high=high,
        method=tuple(interval if n else "none" for n in found.n),
        covers_models=found.covers_models & (interval == "bootstrap"),
    )


def value_drop(
    base: Array,
    treated: Array,
    groups: Array,
    *,
    paired: bool = False,
    level: float = 0.95,
    n_groups: int | None = None,
) -> DropResult:
    """Drop of any value, such as a loss, by the normal two-way form; for a loss, harm is a negative drop.

    Args:
        base: Values of the base arm [M0, n]; NaN where there is none.
        treated: Values of the treated arm [M1, n].
        groups: Group of each example [n], codes of at least 0.
        paired: Row k of both arms belongs together.
        level: Two-sided confidence level.
        n_groups: G; ``None``: the largest code plus one.

    Returns:
        As ``accuracy_drop``. Where nothing varies the interval has no width and is given as NaN: an unbounded value
        has no largest flip to fall back on.

    Raises:
        ArgumentError: As ``accuracy_drop``; an infinite value; fewer than two models in an arm.

    Example:
        >>> found = value_drop([[0.1, 2.0], [0.3, 1.0]], [[1.1, 2.5], [1.2, 2.0]], [0, 0])
        >>> found.drop
        array([-0.85])
    """
    arms = []
    for x, name in ((base, "base"), (treated, "treated")):
        array = as_array(x, name=name, ndim=2)
        infinite = np.isinf(array)
        if infinite.any():
            raise element_error(name, array, infinite, "finite values are needed, or NaN where there is none")
        if len(array) < 2:
            raise argument_error(name, array, "values of at least 2 models (rows) are needed")
        arms.append(array)
    return _drop(arms[0], arms[1], groups, paired=paired, level=level, n_groups=n_groups, form="normal", bounded=False)[
        0
    ]


def _drop(
    base: NDArray[Any],
    treated: NDArray[Any],
    groups: Array,
    *,
    paired: bool,
    level: float,
    n_groups: int | None,
    form: Form,
    bounded: bool = True,
) -> tuple[DropResult, tuple[NDArray[Any], NDArray[Any]], IntArray]:
    """The result with two-way intervals, and the arms and codes of the examples that are in it."""
    as_probability(level, name="level")
    arms, codes, missing = aligned((base, treated), ("base", "treated"), groups, paired=paired, n_groups=n_groups)
    total = len(missing)
    scale = 1.0 if bounded else float("inf")
    singles = [summarise([arm], [1.0], codes, n_groups=total, paired=False) for arm in arms]
    seen, parts = summarise(arms, (1.0, -1.0), codes, n_groups=total, paired=paired)
    drop = assemble(seen, parts, scale=scale, form=form)
    first, second = (assemble(*single, scale=scale, form="normal") for single in singles)
    low, high = drop.interval(level)
    if not bounded:
        low, high = (np.where(high > low, end, np.nan) for end in (low, high))
    excess = against_rest(seen, parts, scale=scale, form=form)
    excess_low, excess_high = excess.interval(level)
    relative, relative_low, relative_high = relative_interval(drop, first, second, level=level)
    n = drop.n.astype(np.int64)
    method = tuple(
        "none" if not size else "tango" if few else "two-way-skewed" if skewed else "two-way"
        for size, few, skewed in zip(n, drop.score, drop.skewness != 0, strict=True)
    )
    result = DropResult(
        group=np.arange(total),
        n=n,
        n_missing=missing,
        base=first.estimate,
        treated=second.estimate,
        drop=drop.estimate,
        low=low,
        high=high,
        excess=excess.estimate,
        excess_low=excess_low,
        excess_high=excess_high,
        relative=relative,
        relative_low=relative_low,
        relative_high=relative_high,
        method=method,
        covers_models=drop.covers_models,
        n_models=(len(base), len(treated)),
        level=level,
        two_way=drop,
        against_rest=excess,
    )
    return result, (arms[0], arms[1]), codes


def aligned(
    arms: Sequence[NDArray[Any]], names: Sequence[str], groups: Array, *, paired: bool, n_groups: int | None
) -> tuple[list[NDArray[Any]], IntArray, IntArray]:
    """Keep the examples that have an outcome in every arm, and for paired arms the cells that all of them have.

    Args:
        arms: Checked outcomes [M_a, n].
        names: Names of the arguments, for messages.
        groups: Group of each example [n].
        paired: Whether rows belong together.
        n_groups: G or ``None``.

    Returns:
        The arms and codes of those examples, and the number of the others by group, int64[G].

    Raises:
        ArgumentError: Shapes differ, codes are malformed, or no group is there at all.

    Example:
        >>> arms, codes, missing = aligned(
        ...     [np.array([[1.0, np.nan]]), np.ones((2, 2))], ("base", "treated"), [0, 1], paired=False, n_groups=None
        ... )
        >>> codes, missing
        (array([0]), array([0, 1]))
    """
    for arm, name in zip(arms, names, strict=True):
        if arm.shape[1] != arms[0].shape[1]:
            raise argument_error(name, arm, f"{arms[0].shape[1]} examples (columns) are needed, as in {names[0]}")
        if paired and len(arm) != len(arms[0]):
            raise argument_error(name, arm, f"{len(arms[0])} models are needed with paired=True, as in {names[0]}")
    codes, total = as_groups(groups, size=arms[0].shape[1], n_groups=n_groups)
    if total == 0:
        raise argument_error("groups", codes, "the groups of at least one example are needed")
    kept = list(arms)
    if paired and any(arm.dtype.kind == "f" for arm in arms):
        gone = np.any([np.isnan(arm.astype(np.float64)) for arm in arms], axis=0)
        if gone.any():
            kept = [np.where(gone, np.nan, arm) for arm in arms]
    there = np.ones(len(codes), dtype=np.bool_)
    for arm in kept:
        if arm.dtype.kind == "f":
            there &= ~np.isnan(arm).all(axis=0)
    missing = np.bincount(codes[~there], minlength=total)
    if not there.all():
        kept, codes = [arm[:, there] for arm in kept], codes[there]
    return kept, codes, missing
