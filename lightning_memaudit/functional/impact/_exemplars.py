"""Examples whose prediction a treatment changes: PIE and taxicab exemplars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.stats import contingency

from lightning_memaudit.functional.checks import (
    Array,
    BoolArray,
    FloatArray,
    IntArray,
    argument_error,
    as_array,
    as_choice,
    as_positive_int,
    divide,
    element_error,
)
from lightning_memaudit.functional.intervals import wilson
from lightning_memaudit.functional.memorization import MEMORIZATION_BINS, memorization_bins

Tie = Literal["largest", "smallest"]


@dataclass(frozen=True, slots=True)
class Exemplars:
    """Pruning-identified exemplars; one entry an example.

    Attributes:
        exemplar: Whether the two arms' majority predictions differ, bool[n].
        base_mode: Majority prediction of the base arm, int64[n].
        treated_mode: Majority prediction of the treated arm.
        base_margin: Votes for the majority minus those for the runner-up, over all models, float64[n]; 0 in a tie.
        treated_margin: The same for the treated arm.
        tied: Whether the tie rule decided a majority, bool[n].
        tie: The rule: the largest or the smallest of the tied labels.
        n_if_other_rule: Number of exemplars under the other rule.
    """

    exemplar: BoolArray
    base_mode: IntArray
    treated_mode: IntArray
    base_margin: FloatArray
    treated_margin: FloatArray
    tied: BoolArray
    tie: Tie
    n_if_other_rule: int


@dataclass(frozen=True, slots=True)
class ExemplarOdds:
    """How often examples are exemplars, by bin of memorization; one entry a bin.

    Attributes:
        edges: Edges of the bins, float64[B + 1].
        n: Examples in each, int64[B].
        n_exemplars: Exemplars among them, int64[B].
        odds: Exemplars to others, float64[B]; infinite where all are, NaN for an empty bin.
        low: Lower end of its interval (Wilson's, as odds).
        high: Upper end.
        ratio: Odds over those of the lowest bin that is not empty, float64[B].
        ratio_low: Lower end of its exact conditional interval.
        ratio_high: Upper end.
        n_unscored: Examples without a memorization score, which are in no bin.
    """

    edges: FloatArray
    n: IntArray
    n_exemplars: IntArray
    odds: FloatArray
    low: FloatArray
    high: FloatArray
    ratio: FloatArray
    ratio_low: FloatArray
    ratio_high: FloatArray
    n_unscored: int


def exemplars(
    base_predictions: Array,
    treated_predictions: Array,
    *,
    n_labels: int | None = None,
    tie: Tie = "largest",
) -> Exemplars:
    """Find examples whose majority prediction the treatment changes (Hooker et al. 2019, PIE).

    Args:
        base_predictions: Predicted labels of the base arm [M0, n], at least 0.
        treated_predictions: Predicted labels of the treated arm [M1, n].
        n_labels: Number of labels; ``None``: the largest prediction plus one.
        tie: Which of the labels with most votes is the majority; ``"largest"`` is what the original code does.

    Returns:
        One entry an example, and the rule.

    Raises:
        ArgumentError: Malformed predictions, or an unknown rule.

    Example:
        >>> found = exemplars([[0, 1], [0, 0]], [[1, 1], [1, 1]])
        >>> found.exemplar, found.tied, found.n_if_other_rule
        (array([ True, False]), array([False,  True]), 2)
    """
    as_choice(tie, name="tie", options=get_args(Tie))
    votes = _votes(base_predictions, treated_predictions, n_labels=n_labels)
    modes = {rule: [_mode(vote, rule) for vote in votes] for rule in ("largest", "smallest")}
    other = modes["smallest" if tie == "largest" else "largest"]
    ranked = [np.sort(vote, axis=1) for vote in votes]
    leads = [(rank[:, -1] - rank[:, -2]) if rank.shape[1] > 1 else rank[:, -1] for rank in ranked]
    margins = [lead / vote.sum(axis=1) for lead, vote in zip(leads, votes, strict=True)]
    first, second = modes[tie]
    return Exemplars(
        exemplar=first != second,
        base_mode=first,
        treated_mode=second,
        base_margin=margins[0],
        treated_margin=margins[1],
        tied=(leads[0] == 0) | (leads[1] == 0),
        tie=tie,
        n_if_other_rule=int((other[0] != other[1]).sum()),
    )


def taxicab_exemplars(
    base_predictions: Array, treated_predictions: Array, *, n_labels: int | None = None
) -> FloatArray:
    """Distance of the two arms' predicted label frequencies, ``sum_labels |p_base - p_treated|``.

    Unlike ``exemplars`` it needs no tie rule and sees changes short of the majority.

    Args:
        base_predictions: Predicted labels of the base arm [M0, n], at least 0.
        treated_predictions: Predicted labels of the treated arm [M1, n].
        n_labels: Number of labels; ``None``: the largest prediction plus one.

    Returns:
        float64[n] in [0, 2]; twice the total variation.

    Raises:
        ArgumentError: Malformed predictions.

    Example:
        >>> taxicab_exemplars([[0, 1], [0, 0]], [[1, 1], [1, 1]])
        array([2., 1.])
    """
    first, second = (
        vote / vote.sum(axis=1, keepdims=True)
        for vote in _votes(base_predictions, treated_predictions, n_labels=n_labels)
    )
    return np.asarray(np.abs(first - second).sum(axis=1))


def exemplar_odds(
    exemplar: Array, memorization: Array, *, edges: Array = MEMORIZATION_BINS, level: float = 0.95
) -> ExemplarOdds:
    """Odds of being an exemplar by bin of memorization.

    Args:
        exemplar: Whether each example is one [n].
        memorization: Scores [n], from models that are in neither arm; NaN where there is none.
        edges: Ascending edges [B + 1].
        level: Two-sided confidence level.

    Returns:
        One entry a bin.

    Raises:
        ArgumentError: Lengths differ, or malformed edges.

    Example:
        >>> found = exemplar_odds([0, 0, 1, 1, 0], [0.0, 0.0, 0.9, 0.9, 0.9], edges=[-1, 0.5, 1])
        >>> found.n_exemplars, found.odds
        (array([0, 2]), array([0., 2.]))
    """
    codes, cuts = memorization_bins(memorization, edges)
    flags = as_array(exemplar, name="exemplar", ndim=1)
    if len(flags) != len(codes) or not np.isin(flags, (0.0, 1.0)).all():
        raise argument_error("exemplar", flags, f"{len(codes)} truth values are needed, one for each score")
    bins, scored = len(cuts) - 1, codes >= 0
    n = np.bincount(codes[scored], minlength=bins)
    hits = np.bincount(codes[scored], weights=flags[scored], minlength=bins).astype(np.int64)
    low, high = wilson(hits, n, level=level)
    ratios = np.full((3, bins), np.nan)
    filled = np.flatnonzero(n)
    for code in filled[1:]:
        table = [[hits[code], n[code] - hits[code]], [hits[filled[0]], n[filled[0]] - hits[filled[0]]]]
        found = contingency.odds_ratio(table, kind="conditional")
        ends = found.confidence_interval(level)
        ratios[:, code] = found.statistic, ends.low, ends.high
    if len(filled):
        ratios[:, filled[0]] = 1.0
    return ExemplarOdds(
        edges=cuts,
        n=n,
        n_exemplars=hits,
        odds=_odds(divide(hits.astype(np.float64), n.astype(np.float64))),
        low=_odds(low),
        high=_odds(high),
        ratio=ratios[0],
        ratio_low=ratios[1],
        ratio_high=ratios[2],
        n_unscored=int((~scored).sum()),
    )


def _odds(share: FloatArray) -> FloatArray:
    return np.where(share < 1, divide(share, 1 - share), np.where(np.isnan(share), np.nan, np.inf))


def _votes(base: Array, treated: Array, *, n_labels: int | None) -> list[IntArray]:
    """Count the votes of each arm for each label, int64[n, L]."""
    arms = []
    for value, name in ((base, "base_predictions"), (treated, "treated_predictions")):
        array = as_array(value, name=name, ndim=2, dtype=None)
        if not array.size:
            raise argument_error(name, array, "at least one model and one example are needed")
        wrong = ~np.isfinite(array) | (array < 0) | (array != np.floor(array))
        if wrong.any():
            raise element_error(name, array, wrong, "predicted labels from 0 are needed, no logits")
        arms.append(array.astype(np.int64))
    if arms[0].shape[1] != arms[1].shape[1]:
        raise argument_error("treated_predictions", arms[1], f"{arms[0].shape[1]} examples (columns) are needed")
    top = max(int(arm.max()) for arm in arms) + 1
    labels = top if n_labels is None else as_positive_int(n_labels, name="n_labels")
    if top > labels:
        raise argument_error("n_labels", labels, f"at least {top} is needed, since label {top - 1} is predicted")
    votes = []
    for arm in arms:
        count = np.zeros((arm.shape[1], labels), dtype=np.int64)
        rows = np.arange(arm.shape[1])
        for row in arm:
            count[rows, row] += 1
        votes.append(count)
    return votes


def _mode(votes: IntArray, rule: str) -> IntArray:
    if rule == "smallest":
        return np.asarray(votes.argmax(axis=1))
    return np.asarray(votes.shape[1] - 1 - votes[:, ::-1].argmax(axis=1))
