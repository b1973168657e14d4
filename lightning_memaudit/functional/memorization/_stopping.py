"""Stop training models when enough is known, at looks declared beforehand, with intervals that allow for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lightning_memaudit.functional.checks import (
    Array,
    FloatArray,
    argument_error,
    as_array,
    as_outcomes,
    as_positive_int,
    as_probability,
    as_threshold,
)
from lightning_memaudit.functional.memorization._in_out import in_out_sums
from lightning_memaudit.functional.memorization._reliability import reliability
from lightning_memaudit.functional.memorization._score import IntervalMethod, interval_method, interval_of_in_out


@dataclass(frozen=True, slots=True)
class Settled:
    """Stop when ``mem >= threshold`` is settled for a share of the examples.

    Attributes:
        threshold: τ, in (−1, 1).
        share: Share of the estimable examples whose interval must exclude τ.
        looks: Numbers of models at which to look, ascending.
        level: Confidence level that holds over all looks together.

    Example:
        >>> Settled(share=0.9).looks
        (50, 100, 200, 400)
    """

    threshold: float = 0.25
    share: float = 0.95
    looks: tuple[int, ...] = (50, 100, 200, 400)
    level: float = 0.95

    def __post_init__(self) -> None:
        _check_looks(self.looks)
        as_threshold(self.threshold)
        as_probability(self.share, name="share")
        as_probability(self.level, name="level")


@dataclass(frozen=True, slots=True)
class Reliable:
    """Stop when the split-half reliability of the scores reaches a target.

    Attributes:
        target: Reliability (Spearman–Brown) at which to stop, in (0, 1).
        looks: Numbers of models at which to look, ascending.
        level: Confidence level that intervals of scores keep over all looks together.

    Example:
        >>> Reliable().target
        0.9
    """

    target: float = 0.9
    looks: tuple[int, ...] = (50, 100, 200, 400)
    level: float = 0.95

    def __post_init__(self) -> None:
        _check_looks(self.looks)
        as_probability(self.target, name="target")
        as_probability(self.level, name="level")


StoppingRule: TypeAlias = Settled | Reliable


@dataclass(frozen=True, slots=True)
class StoppingLook:
    """What one look found.

    Attributes:
        n_models: Models looked at.
        value: Share settled, or reliability; NaN where it cannot be said.
        level: Level at which intervals of this look are to be reported.
        stop: Whether the rule says stop; the last look stops training whatever this says.
    """

    n_models: int
    value: float
    level: float
    stop: bool


def spending(looks: Array, *, level: float = 0.95) -> FloatArray:
    """Level for the intervals of each look, so that all looks together keep ``level``.

    Power-family spending α(t) = α t³ with t = look / last look (Kim and DeMets 1987), shared out by the union bound:
    look j has level ``1 - (α(t_j) - α(t_{j-1}))``. Whatever makes training stop, an interval that keeps its level then
    misses with probability α at most. Early levels are far above .95, where the published Agresti–Caffo interval falls
    short: report ``memorization_interval(..., level=look.level, method="agresti-caffo-level")``. Over four looks its
    simulated coverage, with stopping as adverse as can be, is at least .950 at r = .5 and .7 and .947 at r = .9, where
    one fixed look of the published interval covers .946; with the published interval it is about .945 and .942.

    Args:
        looks: Numbers of models, ascending [L].
        level: Simultaneous level.

    Returns:
        Levels, float64[L].

    Raises:
        ArgumentError: Looks are not ascending counts of at least 2, or ``level`` is not in (0, 1).

    Example:
        >>> spending((100, 200)).round(5)
        array([0.99375, 0.95625])
    """
    _check_looks(looks)
    times = as_array(looks, name="looks", ndim=1)
    alpha = 1 - as_probability(level, name="level")
    spent = alpha * (times / times[-1]) ** 3
    levels: FloatArray = 1 - np.diff(spent, prepend=0.0)
    return levels


def settled_share(
    correct: Array,
    mask: Array,
    *,
    threshold: float = 0.25,
    level: float = 0.95,
    method: IntervalMethod = "agresti-caffo-level",
) -> float:
    """Share of the estimable examples whose interval excludes a threshold.

    Args:
        correct: Outcomes [M, n] in [0, 1].
        mask: Membership [M, n].
        threshold: τ, in (−1, 1).
        level: Two-sided level of each interval.
        method: ``"agresti-caffo-level"``, ``"agresti-caffo"`` or ``"newcombe"``. Wald is refused: its width is zero
            where models in and models out are unanimous, which settles all at once. Fractions take ``welch_floor``.

    Returns:
        The share; NaN where no example has models in and out.

    Raises:
        ArgumentError: Malformed arrays, an option out of range, or ``method="wald"``.

    Example:
        >>> mask = np.repeat([[True], [False]], 20, axis=0)
        >>> settled_share(mask, mask)
        1.0
    """
    if method == "wald":
        raise argument_error(
            "method", method, "an interval that always has a width is needed, such as 'agresti-caffo-level'"
        )
    as_threshold(threshold)
    outcomes, inside = as_outcomes(correct, mask)
    name, in_out = interval_method(outcomes, method), in_out_sums(outcomes, inside)
    low, high = interval_of_in_out(in_out, outcomes, inside, level=as_probability(level, name="level"), name=name)
    kept = in_out.estimable
    settled = (low[kept] > threshold) | (high[kept] < threshold)
    return float(settled.mean()) if kept.any() else float("nan")


def reached(
    rule: StoppingRule,
    correct: Array,
    mask: Array,
    look_index: int,
    *,
    blocks: Array | None = None,
    seed: int = 0,
) -> StoppingLook:
    """Say at one declared look whether a rule is satisfied.

    Args:
        rule: ``Settled`` or ``Reliable``.
        correct: Outcomes [M, n] of exactly ``rule.looks[look_index]`` models.
        mask: Membership [M, n].
        look_index: Which look this is, from 0.
        blocks: Models that stay together [M], for the reliability; ``None``: each alone.
        seed: Seed of the splits of the reliability.

    Returns:
        The value, the level for the intervals of this look, and the verdict.

    Raises:
        ArgumentError: The look does not exist, M is not its number of models, or the arrays are malformed.

    Example:
        >>> mask = np.repeat([[True], [False]], 20, axis=0)
        >>> reached(Settled(looks=(40, 80)), mask, mask, 0).stop
        True
    """
    outcomes, inside = as_outcomes(correct, mask)
    index = as_positive_int(look_index, name="look_index", minimum=0)
    if index >= len(rule.looks):
        raise argument_error(
            "look_index", look_index, f"a number below {len(rule.looks)}, the number of looks, is needed"
        )
    if len(outcomes) != rule.looks[index]:
        raise argument_error(
            "correct", outcomes, f"outcomes of the {rule.looks[index]} models declared for look {index} are needed"
        )
    level = float(spending(rule.looks, level=rule.level)[index])
    if isinstance(rule, Settled):
        value, target = settled_share(outcomes, inside, threshold=rule.threshold, level=level), rule.share
    else:
        value, target = reliability(outcomes, inside, seed=seed, blocks=blocks).spearman_brown, rule.target
    return StoppingLook(n_models=len(outcomes), value=value, level=level, stop=bool(value >= target))


def _check_looks(looks: Array) -> None:
    counts = as_array(looks, name="looks", ndim=1)
    whole = np.isfinite(counts).all() and (counts == np.floor(counts)).all()
    if len(counts) == 0 or not whole or counts[0] < 2 or (np.diff(counts) <= 0).any():
        raise argument_error("looks", looks, "ascending numbers of models from 2 are needed, such as (50, 100, 200)")
