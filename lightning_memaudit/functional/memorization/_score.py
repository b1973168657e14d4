"""The memorization score: accuracy on an example when it was in the training subset minus when it was out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from lightning_memaudit.functional.checks import (
    Array,
    BoolArray,
    FloatArray,
    IntArray,
    as_blocks,
    as_choice,
    as_correct,
    as_indices,
    as_outcomes,
    as_positive_int,
    as_probability,
    divide,
    is_fractional,
)
from lightning_memaudit.functional.intervals import Interval, agresti_caffo, newcombe, wald_difference, welch_floor
from lightning_memaudit.functional.memorization._group_floor import group_floor, group_mean
from lightning_memaudit.functional.memorization._group_mean import GroupMean
from lightning_memaudit.functional.memorization._in_out import InOut, in_out_sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "GroupedMemorization",
    "IntervalMethod",
    "MemorizationScore",
    "c_score",
    "grouped_memorization",
    "interval_method",
    "memorization_interval",
    "memorization_score",
    "models_for_in_and_out",
    "worst_case_standard_error",
]

IntervalMethod = Literal["agresti-caffo", "agresti-caffo-level", "newcombe", "wald"]
_METHODS: dict[str, Callable[..., Interval]] = {
    "agresti-caffo": agresti_caffo,
    "agresti-caffo-level": partial(agresti_caffo, pseudo_counts="level"),
    "newcombe": newcombe,
    "wald": wald_difference,
}


@dataclass(frozen=True, slots=True)
class MemorizationScore:
    """Memorization of each example, float64[n] each; NaN where no model has it in, or none has it out.

    Attributes:
        score: ``in_accuracy - out_accuracy``, in [−1, 1].
        in_accuracy: Mean outcome over models that trained on the example.
        out_accuracy: Mean outcome over models that did not.
        n_in: Number of models that trained on it (whole numbers).
        n_out: Number of models that did not.
    """

    score: FloatArray
    in_accuracy: FloatArray
    out_accuracy: FloatArray
    n_in: FloatArray
    n_out: FloatArray


@dataclass(frozen=True, slots=True)
class GroupedMemorization:
    """Mean memorization over fixed groups of examples, one entry a group; NaN for a group without estimable examples.

    Attributes:
        n: Examples in the group, int64[G].
        n_estimable: Those with models in and out, int64[G]; the means are over these.
        score: Mean score, float64[G].
        low: Lower end of the interval of the mean for these examples, over the randomness of models.
        high: Upper end.
        in_accuracy: Mean accuracy IN; where it is low the group is not fitted, which is not the same as not memorized.
        out_accuracy: Mean accuracy OUT.
        mean: The mean score, for bounds at other levels and p-values.
    """

    n: IntArray
    n_estimable: IntArray
    score: FloatArray
    low: FloatArray
    high: FloatArray
    in_accuracy: FloatArray
    out_accuracy: FloatArray
    mean: GroupMean


def memorization_score(correct: Array, mask: Array) -> MemorizationScore:
    """Estimate memorization from models trained on random subsets (Feldman and Zhang 2020, Algorithm 1).

    ``mem_i = mean(correct[k, i] | i in subset k) - mean(correct[k, i] | i not in subset k)``. The authors' released
    code counts no model out as accuracy 0, so that mem silently equals the accuracy IN; here it is NaN.

    Args:
        correct: Outcomes [M, n], 0/1 or in [0, 1] for sequences. A NaN makes that example NaN.
        mask: Membership [M, n].

    Returns:
        Score, both accuracies and the numbers of models in and out, float64[n] each.

    Raises:
        ArgumentError: Fewer than 2 models, shapes that differ, or values out of range.

    Example:
        >>> found = memorization_score([[1, 1], [0, 1], [1, 1]], [[1, 1], [0, 1], [1, 1]])
        >>> found.score, found.out_accuracy
        (array([ 1., nan]), array([ 0., nan]))
    """
    in_out = in_out_sums(*as_outcomes(correct, mask))
    mean_in, mean_out = in_out.means()
    return MemorizationScore(mean_in - mean_out, mean_in, mean_out, in_out.n_in, in_out.n_out)


def c_score(correct: Array, mask: Array) -> FloatArray:
    """Consistency score: accuracy on an example by models that did not train on it (Jiang et al. 2021, equation 1).

    Args:
        correct: Outcomes [M, n] in [0, 1].
        mask: Membership [M, n].

    Returns:
        Accuracy OUT, float64[n]; NaN where every model trained on the example.

    Raises:
        ArgumentError: As ``memorization_score``.

    Example:
        >>> c_score([[1, 1], [0, 1]], [[1, 1], [0, 1]])
        array([ 0., nan])
    """
    return memorization_score(correct, mask).out_accuracy


def interval_method(correct: Array, method: IntervalMethod = "agresti-caffo") -> str:
    """Name of the interval that ``memorization_interval`` uses for these outcomes.

    Args:
        correct: Outcomes [M, n].
        method: The interval asked for.

    Returns:
        ``method`` for 0/1 outcomes, ``"welch-floor"`` for fractions.

    Raises:
        ArgumentError: ``method`` is unknown, or the outcomes are malformed.

    Example:
        >>> interval_method([[0.5], [1.0]], "newcombe")
        'welch-floor'
    """
    as_choice(method, name="method", options=get_args(IntervalMethod))
    return "welch-floor" if is_fractional(as_correct(correct)) else method


def memorization_interval(
    correct: Array, mask: Array, level: float = 0.95, method: IntervalMethod = "agresti-caffo"
) -> tuple[FloatArray, FloatArray]:
    """Confidence interval of each memorization score.

    Fractional outcomes (sequences) always use ``intervals.welch_floor``; ``interval_method`` tells the name.
    ``"wald"`` is for comparison only: it has zero width exactly where memorization is plainest.

    Args:
        correct: Outcomes [M, n] in [0, 1].
        mask: Membership [M, n].
        level: Two-sided confidence level of each interval by itself.
        method: ``"agresti-caffo"``, ``"agresti-caffo-level"`` (for levels far above .95, such as those of
            ``stopping.spending``), ``"newcombe"`` or ``"wald"``.

    Returns:
        ``(low, high)``, float64[n] in [−1, 1]; NaN where no model has it in, or none has it out.

    Raises:
        ArgumentError: As ``memorization_score``, or an unknown method or level.

    Example:
        >>> low, high = memorization_interval([[1], [1], [0], [0]], [[1], [1], [0], [0]])
        >>> bool(low[0] < 1 <= high[0])
        True
    """
    outcomes, inside = as_outcomes(correct, mask)
    name = interval_method(outcomes, method)
    return interval_of_in_out(in_out_sums(outcomes, inside), outcomes, inside, level=level, name=name)


def interval_of_in_out(
    in_out: InOut, correct: NDArray[Any], mask: BoolArray, *, level: float, name: str
) -> tuple[FloatArray, FloatArray]:
    """Interval of in minus out from sums that are already there.

    Args:
        in_out: Sums in and out.
        correct: Checked outcomes [M, n].
        mask: Checked membership [M, n].
        level: Two-sided confidence level.
        name: What ``interval_method`` returned.

    Returns:
        ``(low, high)``, float64[n].

    Example:
        >>> correct, mask = np.eye(2), np.eye(2, dtype=bool)
        >>> low, high = interval_of_in_out(in_out_sums(correct, mask), correct, mask, level=0.95, name="newcombe")
        >>> print(low.round(3))
        [-0.122 -0.122]
    """
    if name != "welch-floor":
        return _METHODS[name](in_out.sum_in, in_out.n_in, in_out.sum_out, in_out.n_out, level=level)
    squares = in_out_sums(np.square(correct, dtype=np.float64), mask)
    (mean_in, mean_out), (square_in, square_out) = in_out.means(), squares.means()
    variance_in, variance_out = np.maximum(square_in - mean_in**2, 0.0), np.maximum(square_out - mean_out**2, 0.0)
    # Sums of fractions may exceed their count by rounding.
    mean_in, mean_out = np.minimum(mean_in, 1.0), np.minimum(mean_out, 1.0)
    return welch_floor(mean_in, variance_in, in_out.n_in, mean_out, variance_out, in_out.n_out, level=level)


def worst_case_standard_error(n_models: int, subset_fraction: float) -> float:
    """Largest standard error that a memorization score can have: both accuracies at one half.

    ``sqrt(1 / (4 r M) + 1 / (4 (1 - r) M))``.

    Args:
        n_models: M.
        subset_fraction: r, the expected share of examples in a subset.

    Returns:
        The standard error.

    Raises:
        ArgumentError: ``n_models`` is below 1 or ``subset_fraction`` not in (0, 1).

    Example:
        >>> print(f"{worst_case_standard_error(200, 0.7):.3f}")
        0.077
    """
    m, r = as_positive_int(n_models, name="n_models"), as_probability(subset_fraction, name="subset_fraction")
    return float(np.sqrt(1 / (4 * r * m) + 1 / (4 * (1 - r) * m)))


def models_for_in_and_out(n_examples: int, subset_fraction: float, *, probability: float = 0.95) -> int:
    """Number of models at which every example has a model in and a model out with a given probability.

    The smallest M with ``n (r^M + (1 - r)^M) <= 1 - probability`` (union bound over examples).

    Args:
        n_examples: n.
        subset_fraction: r.
        probability: Probability wanted that no example lacks either.

    Returns:
        M, at least 2.

    Raises:
        ArgumentError: A count is below 1, or a fraction not in (0, 1).

    Example:
        >>> models_for_in_and_out(1000, 0.7)
        28
    """
    n, r = as_positive_int(n_examples, name="n_examples"), as_probability(subset_fraction, name="subset_fraction")
    allowed = 1 - as_probability(probability, name="probability")
    models = max(2, int(np.log(allowed / n) / np.log(max(r, 1 - r))))
    while n * (r**models + (1 - r) ** models) > allowed:
        models += 1
    return models


def grouped_memorization(
    correct: Array,
    mask: Array,
    groups: Array,
    *,
    n_groups: int,
    level: float = 0.95,
    blocks: Array | None = None,
) -> GroupedMemorization:
    """Mean memorization by group, with a jackknife over models for these very examples and a floor on its width.

    Examples are fixed and models are random, so one model's quality moves all examples of a group together; the
    delete-one (or delete-a-block) jackknife over models sees that, intervals that average over examples do not.
    Cost is O(M · n). A replicate leaves out examples that lose all models in or out in it.

    Where memorization is plain (nearly always right in, wrong out) and the group small, few or no models disagree and
    the jackknife's width is too small or zero. So the interval is the smallest that holds both the jackknife's and
    that of ``group_floor.group_floor``: Agresti–Caffo for the group, with the number of outcomes divided by a design
    effect that is estimated and, while few outcomes differ, assumed larger.

    Guaranteed: the interval holds the score and the jackknife interval; its width is never zero; a group of one with
    0/1 outcomes has at least the interval ``agresti_caffo(..., pseudo_counts="level")``; a unanimous group of any size
    is about as wide as a group of one.
    Not guaranteed, simulated only (``test_group_coverage.py``): coverage is at least about .94
    at a nominal .95, for 20 to 200 models, members that are independent or share model quality, and paired blocks; at
    a nominal .995 it was at least .995 in nearly all cells. It is up to 1.00 near 0 and 1 in small groups. Groups of
    20 or more away from 0 and 1 gain about 5 % in width; a nearly unanimous large group may be far wider than members
    that are in fact independent need. In and out share one design effect: if failures are independent and common on
    one side but rare and shared by all members in the other, the floor is too low (.92 at 60 models, 30 members, .70
    in and .02 out). Blocks that share failures of a single example are seen by the jackknife only.

    Args:
        correct: Outcomes [M, n] in [0, 1].
        mask: Membership [M, n].
        groups: Group of each example [n], in [0, n_groups).
        n_groups: G.
        level: Two-sided confidence level; the jackknife's quantile is Student's with one less than the number of
            blocks, the floor's is the normal.
        blocks: Models that are left out together [M], such as the pairs of a paired design; ``None``: each alone.

    Returns:
        One entry a group.

    Raises:
        ArgumentError: As ``memorization_score``, or malformed groups or blocks.

    Example:
        >>> mask = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1]])
        >>> found = grouped_memorization(mask, mask, [0, 0, 1], n_groups=3)
        >>> found.n, found.score
        (array([2, 1, 0]), array([ 1.,  1., nan]))
    """
    outcomes, inside = as_outcomes(correct, mask)
    n_groups = as_positive_int(n_groups, name="n_groups")
    codes = as_indices(groups, name="groups", size=outcomes.shape[1], upper=n_groups)
    block_codes = as_blocks(blocks, len(outcomes))
    in_out = in_out_sums(outcomes, inside)
    kept = np.flatnonzero(in_out.estimable)
    outcomes, inside, codes_kept = outcomes[:, kept], inside[:, kept], codes[kept]
    in_out = InOut(in_out.sum_in[kept], in_out.sum_out[kept], in_out.n_in[kept], in_out.n_out[kept])
    mean_in, mean_out = in_out.means()

    n_blocks = int(block_codes.max()) + 1
    replicates = np.empty((n_blocks, n_groups))
    for b in range(n_blocks):
        left = in_out_sums(outcomes[block_codes == b], inside[block_codes == b])
        rest_in = divide(in_out.sum_in - left.sum_in, in_out.n_in - left.n_in)
        rest_out = divide(in_out.sum_out - left.sum_out, in_out.n_out - left.n_out)
        replicates[b] = group_mean(rest_in - rest_out, codes_kept, n_groups=n_groups)
    variance = (n_blocks - 1) / n_blocks * np.square(replicates - replicates.mean(axis=0)).sum(axis=0)
    squares = in_out_sums(np.square(outcomes, dtype=np.float64), inside) if is_fractional(outcomes) else in_out
    mean = GroupMean(
        n=np.bincount(codes_kept, minlength=n_groups).astype(np.float64),
        estimate=group_mean(mean_in - mean_out, codes_kept, n_groups=n_groups),
        variance=variance,
        df=np.full(n_groups, n_blocks - 1.0),
        floor=group_floor(in_out, squares, codes_kept, n_groups=n_groups, variance=variance),
    )
    low, high = mean.interval(level)
    return GroupedMemorization(
        n=np.bincount(codes, minlength=n_groups),
        n_estimable=np.bincount(codes_kept, minlength=n_groups),
        score=mean.estimate,
        low=low,
        high=high,
        in_accuracy=group_mean(mean_in, codes_kept, n_groups=n_groups),
        out_accuracy=group_mean(mean_out, codes_kept, n_groups=n_groups),
        mean=mean,
    )
