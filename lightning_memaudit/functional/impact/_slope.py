"""Does the harm fall on the memorized? Drop on the training examples set against memorization, on disjoint models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import Array, as_positive_int, as_probability, divide
from lightning_memaudit.functional.impact._paired_arms import Condition, PairedArms, paired_arms
from lightning_memaudit.functional.memorization import InOut, in_out_sums

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray

# Delete-a-block jackknife: with more models than this, blocks of several.
_MOST_BLOCKS = 50


@dataclass(frozen=True, slots=True)
class MemorizationSlope:
    """Instrumented slope of the drop on memorization.

    A slope of 0 is not "no disparate harm": a drop cannot exceed the accuracy that there was to lose.

    Attributes:
        slope: Extra drop from memorization 0 to 1.
        low: Lower end of its Fieller interval over models, for these examples; NaN where the first stage is too weak.
        high: Upper end.
        standard_error: Jackknife standard error over models.
        first_stage: Correlation of the memorization scores of the two halves.
        first_stage_f: Squared ratio of their covariance to its standard error; below 10 the instrument is weak.
        n_examples: Examples with a score in both halves and a drop, averaged over splits.
        n_models: Models in each of the two halves, and base models for the drop, on average.
        n_treated: Treated models for the drop, on average.
        n_splits: Splits that were averaged.
        condition: Whether only models with the example out of their subset (or in it) enter the drop.
    """

    slope: float
    low: float
    high: float
    standard_error: float
    first_stage: float
    first_stage_f: float
    n_examples: float
    n_models: tuple[float, float, float]
    n_treated: float
    n_splits: int
    condition: Condition


def memorization_slope(
    base: Array,
    mask: Array,
    treated: Array,
    *,
    pairs: Array | None = None,
    treated_mask: Array | None = None,
    condition: Condition = "out",
    blocks: Array | None = None,
    n_splits: int = 10,
    seed: int = 0,
    level: float = 0.95,
) -> MemorizationSlope:
    """Slope of the drop on memorization, with one estimate of memorization as instrument for another.

    Estimates of both from the same models share chance errors, which biases the slope (downward when models without the
    example are judged, upward with it), and a plain regression on other models is attenuated (a true .37 gives .19 at
    24 models). So the base models are split in three: memorization from A is the instrument for that from B, and the
    drop is from C and the treated models that go with it:
    ``slope = [cov(mem_A, drop_C) + cov(mem_B, drop_C)] / 2 cov(mem_A, mem_B)``, numerators and denominators averaged
    over splits. When at most a third of the base models has a treated counterpart, C is those; else the three sets take
    turns. The jackknife over models is on the safe side, by up to a third in simulation.

    Args:
        base: Outcomes of the base arm on the training examples [M0, n] in [0, 1].
        mask: Membership of the base models [M0, n].
        treated: Outcomes of the treated arm [M1, n].
        pairs: Row of ``base`` that each treated model shares subset and seed with [M1], each row at most once.
        treated_mask: Membership of treated models that share nothing with the base ones [M1, n]; either this or
            ``pairs``.
        condition: ``"out"``: only models without the example enter its drop; ``"in"``: only models with it.
        blocks: Base models that stay together [M0], such as the pairs of a paired design; ``None``: each alone.
        n_splits: Random splits to average.
        seed: Seed of the splits.
        level: Two-sided confidence level.

    Returns:
        The slope, its interval over models and the strength of the first stage. NaN where memorization does not vary.

    Raises:
        ArgumentError: Too few models for three sets, malformed arrays, or both or neither of ``pairs`` and
            ``treated_mask``.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = rng.random((90, 200)) < 0.5
        >>> mem = np.linspace(0, 0.8, 200)
        >>> base = rng.random((90, 200)) < 0.2 + mem * mask
        >>> found = memorization_slope(base, mask, base & (rng.random((90, 200)) < 0.5), pairs=np.arange(90))
        >>> abs(found.slope) < 0.05, found.first_stage > 0.5
        (True, True)
    """
    models = paired_arms(base, mask, treated, pairs, treated_mask, condition, blocks)
    level = as_probability(level, name="level")
    splits = as_positive_int(n_splits, name="n_splits")
    rng = np.random.default_rng(seed)
    units = min(models.n_blocks, _MOST_BLOCKS)
    unit = _dealt(models, rng, units)[models.blocks]
    if models.pairs is not None:
        others, treated_unit = 0, unit[models.pairs]
        df = len(np.unique(treated_unit)) - 1
    else:
        others = min(len(models.treated), _MOST_BLOCKS)
        treated_unit = units + rng.permutation(len(models.treated)) % others
        df = min(units, others) - 1

    totals, facts, count = np.zeros((units + others + 1, 2)), np.zeros(6), 0
    for sets in _splits(models, splits, rng):
        found, described = _moments(models, sets, unit, treated_unit, units + others)
        totals, facts, count = totals + found, facts + described, count + 1
    (numerator, denominator), replicates = totals[0] / count, totals[1:] / count
    covariance = sum((_jackknife(part) for part in (replicates[:units], replicates[units:])), np.zeros((2, 2)))
    slope, strength, error = float("nan"), float("nan"), float("nan")
    if denominator > 0:
        slope = float(numerator / denominator)
        gradient = np.array([1.0, -slope]) / denominator
        error = float(np.sqrt(gradient @ covariance @ gradient))
    if covariance[1, 1] > 0:
        strength = float(denominator**2 / covariance[1, 1])
    low, high = _fieller(numerator, denominator, covariance, t=float(stats.t.ppf(0.5 + level / 2, df)))
    first_stage, n_examples, first, second, third, judged = (facts / count).tolist()
    return MemorizationSlope(
        slope=slope,
        low=low,
        high=high,
        standard_error=error,
        first_stage=first_stage,
        first_stage_f=strength,
        n_examples=n_examples,
        n_models=(first, second, third),
        n_treated=judged,
        n_splits=count,
        condition=condition,
    )


def _splits(
    models: PairedArms, n_splits: int, rng: np.random.Generator
) -> Iterator[tuple[BoolArray, BoolArray, BoolArray]]:
    """Three disjoint sets of base models each time, as masks [M0]; the drop comes from the third."""
    counterparts = models.paired_blocks()
    rest = np.setdiff1d(np.arange(models.n_blocks), counterparts)
    few = models.few_judge
    for _ in range(n_splits):
        if few:
            fold = np.full(models.n_blocks, 2)
            fold[rng.permutation(rest)] = np.arange(len(rest)) % 2
        else:
            fold = _dealt(models, rng, 3)
        member = fold[models.blocks]
        for turn in ((0, 1, 2),) if few else ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            first, second, third = (member == code for code in turn)
            yield first, second, third


def _dealt(models: PairedArms, rng: np.random.Generator, n_hands: int) -> IntArray:
    """Deal blocks to hands at random, those with a treated counterpart first, so that they are spread evenly."""
    counterparts = models.paired_blocks()
    rest = np.setdiff1d(np.arange(models.n_blocks), counterparts)
    hand = np.empty(models.n_blocks, dtype=np.int64)
    hand[np.concatenate([rng.permutation(counterparts), rng.permutation(rest)])] = np.arange(len(hand)) % n_hands
    return hand


def _jackknife(replicates: FloatArray) -> FloatArray:
    """Covariance of a statistic from its values without each unit [J, 2]; nothing for no unit."""
    if not len(replicates):
        return np.zeros((2, 2))
    return np.asarray(np.cov(replicates.T, bias=True) * (len(replicates) - 1))


def _moments(
    models: PairedArms,
    sets: tuple[BoolArray, BoolArray, BoolArray],
    unit: IntArray,
    treated_unit: IntArray,
    n_units: int,
) -> tuple[FloatArray, FloatArray]:
    """Numerator and denominator from all models, then without each jackknife unit, [n_units + 1, 2]; and facts."""
    first, second, third = sets
    base_cells, treated_cells = models.judged()
    joined = third[models.pairs] if models.pairs is not None else np.ones(len(models.treated), dtype=np.bool_)
    # Only base models with a counterpart judge, so that both arms are the same draw of subsets.
    judging = third if models.pairs is None else np.isin(np.arange(len(third)), models.pairs[joined])
    sources = (
        (first, unit, models.base, models.mask),
        (second, unit, models.base, models.mask),
        (judging, unit, models.base, base_cells),
        (joined, treated_unit, models.treated, treated_cells),
    )
    parts = [_sums_by_unit(*source) for source in sources]
    whole = [np.sum(list(part.values()), axis=0) for part in parts]
    found = np.empty((n_units + 1, 2))
    found[0], facts = _covariances(whole)
    for code in range(n_units):
        left = [total - part[code] if code in part else total for total, part in zip(whole, parts, strict=True)]
        found[code + 1] = _covariances(left)[0]
    sizes = [float(source[0].sum()) for source in sources]
    return found, np.array([*facts, *sizes])


def _sums_by_unit(
    chosen: BoolArray, units: IntArray, outcomes: NDArray[Any], cells: BoolArray
) -> dict[int, FloatArray]:
    """Sums and counts of outcomes in and outside the cells, of the chosen models of each unit, [4, n]."""
    found = {}
    for code in np.unique(units[chosen]).tolist():
        rows = chosen & (units == code)
        sums = in_out_sums(outcomes[rows], cells[rows])
        found[code] = np.stack([sums.sum_in, sums.sum_out, sums.n_in, sums.n_out])
    return found


def _covariances(sums: list[FloatArray]) -> tuple[FloatArray, tuple[float, float]]:
    """Covariances of both halves' scores with the drop and with each other; their correlation and the examples."""
    inside, outside = zip(*(InOut(*part).means() for part in sums), strict=True)
    # The cells that judge were given as the mask of the last two, so their mean is the one inside.
    a, b, drop = inside[0] - outside[0], inside[1] - outside[1], inside[2] - inside[3]
    there = np.isfinite(a + b + drop)
    n = int(there.sum())
    if n < 3:
        return np.full(2, np.nan), (float("nan"), float(n))
    a, b, drop = (x[there] - x[there].mean() for x in (a, b, drop))
    together = float(divide(np.asarray(a @ b), np.sqrt(np.asarray((a @ a) * (b @ b)))))
    return np.array([(a @ drop + b @ drop) / (2 * n), a @ b / n]), (together, float(n))


def _fieller(numerator: float, denominator: float, covariance: FloatArray, *, t: float) -> tuple[float, float]:
    """Slopes β at which numerator − β denominator is within t standard errors of 0 (Fieller 1954)."""
    a = denominator**2 - t**2 * covariance[1, 1]
    half = numerator * denominator - t**2 * covariance[0, 1]
    inside = half**2 - a * (numerator**2 - t**2 * covariance[0, 0])
    if not (a > 0 and inside >= 0 and denominator > 0):
        return float("nan"), float("nan")
    root = float(np.sqrt(inside))
    return float((half - root) / a), float((half + root) / a)
