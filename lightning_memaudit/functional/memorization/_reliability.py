"""How well scores from one half of the models agree with those from the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import (
    Array,
    BoolArray,
    FloatArray,
    IntArray,
    as_blocks,
    as_outcomes,
    as_positive_int,
    as_probability,
)
from lightning_memaudit.functional.memorization._in_out import in_out_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Reliability:
    """Agreement of memorization scores from disjoint halves of the models, averaged over random splits.

    Attributes:
        n_models: M, the models that were split.
        pearson_half: Pearson correlation of the scores of the two halves.
        spearman_half: Spearman correlation of the same; not stepped up, which is wrong under ties.
        spearman_brown: Pearson stepped up to all M models.
        models_for_90: Number of models at which the step-up reaches .90; NaN when the halves do not agree at all.
        models_for_95: The same for .95.
        n_examples: Examples with models in and out in both halves of every split.
        n_excluded: The others; a split leaves out those without models in and out in both of its halves.
        n_splits: Random splits averaged over.
    """

    n_models: int
    pearson_half: float
    spearman_half: float
    spearman_brown: float
    models_for_90: float
    models_for_95: float
    n_examples: int
    n_excluded: int
    n_splits: int


def spearman_brown(correlation: float, *, factor: float = 2.0) -> float:
    """Predict the reliability of a score from ``factor`` times as many models (Spearman 1910; Brown 1910).

    Args:
        correlation: Reliability at the present length.
        factor: How many times as many models.

    Returns:
        ``factor * r / (1 + (factor - 1) * r)``; NaN where the denominator is not positive.

    Example:
        >>> round(spearman_brown(0.6), 10)
        0.75
    """
    denominator = 1 + (factor - 1) * correlation
    return factor * correlation / denominator if denominator > 0 else float("nan")


def models_for_reliability(n_models: int, reliability: float, *, target: float) -> float:
    """Number of models at which the Spearman–Brown formula reaches a target.

    Args:
        n_models: Present number of models.
        reliability: Reliability at that number.
        target: Reliability wanted, in (0, 1).

    Returns:
        A whole number as float; NaN when ``reliability`` is not positive.

    Raises:
        ArgumentError: ``n_models`` is below 1, or ``target`` not in (0, 1).

    Example:
        >>> models_for_reliability(100, 0.75, target=0.9)
        300.0
    """
    as_probability(target, name="target")
    as_positive_int(n_models, name="n_models")
    if not reliability > 0:
        return float("nan")
    if reliability >= 1:
        return 2.0
    needed = n_models * target * (1 - reliability) / (reliability * (1 - target))
    # The tolerance keeps a whole number that rounding lifted a little from being rounded up.
    return float(max(np.ceil(needed - 1e-9 * needed), 2.0))


def split_half_reliability(correct: Array, mask: Array, seed: int = 0, *, blocks: Array | None = None) -> float:
    """Pearson correlation of scores from two random halves of the models, stepped up to all of them.

    Args:
        correct: Outcomes [M, n] in [0, 1].
        mask: Membership [M, n].
        seed: Seed of the split.
        blocks: Models that stay together [M], such as the pairs of a paired design; ``None``: each alone.

    Returns:
        The Spearman–Brown step-up of the correlation, a reliability of the score from all M models; NaN where fewer
        than three examples have models in and out in both halves, or a half has no spread.

    Raises:
        ArgumentError: Fewer than 4 models, or malformed arrays.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = rng.random((200, 50)) < 0.5
        >>> mem = rng.random(50)
        >>> correct = rng.random((200, 50)) < np.where(mask, mem, 0.0)
        >>> split_half_reliability(correct, mask) > 0.9
        True
    """
    outcomes, inside = as_outcomes(correct, mask, min_models=4)
    first, second = half_scores(outcomes, inside, as_blocks(blocks, len(outcomes)), np.random.default_rng(seed))
    kept = np.isfinite(first) & np.isfinite(second)
    return spearman_brown(_pearson(first[kept], second[kept]))


def reliability(
    correct: Array, mask: Array, *, seed: int = 0, n_splits: int = 20, blocks: Array | None = None
) -> Reliability:
    """Split-half reliability of memorization scores, averaged over random splits of the models.

    The correlation of the halves is averaged first and stepped up once (Spearman–Brown).

    Args:
        correct: Outcomes [M, n] in [0, 1].
        mask: Membership [M, n].
        seed: Seed of the splits.
        n_splits: Number of random splits.
        blocks: Models that stay together [M], such as the pairs of a paired design; ``None``: each alone.

    Returns:
        Correlations, the step-up, and the numbers of models that would reach .90 and .95.

    Raises:
        ArgumentError: Fewer than 4 models, or malformed arrays.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = rng.random((200, 50)) < 0.5
        >>> correct = rng.random((200, 50)) < np.where(mask, rng.random(50), 0.0)
        >>> found = reliability(correct, mask, n_splits=5)
        >>> found.n_examples, found.spearman_brown > found.pearson_half
        (50, True)
    """
    outcomes, inside = as_outcomes(correct, mask, min_models=4)
    codes, rng = as_blocks(blocks, len(outcomes)), np.random.default_rng(seed)
    n_splits = as_positive_int(n_splits, name="n_splits")
    pearson, spearman = [], []
    always = np.ones(outcomes.shape[1], dtype=np.bool_)
    for _ in range(n_splits):
        first, second = half_scores(outcomes, inside, codes, rng)
        kept = np.isfinite(first) & np.isfinite(second)
        always &= kept
        pearson.append(_pearson(first[kept], second[kept]))
        spearman.append(_pearson(stats.rankdata(first[kept]), stats.rankdata(second[kept])))
    half = float(np.mean(pearson))
    full, n_models = spearman_brown(half), len(outcomes)
    return Reliability(
        n_models=n_models,
        pearson_half=half,
        spearman_half=float(np.mean(spearman)),
        spearman_brown=full,
        models_for_90=models_for_reliability(n_models, full, target=0.90),
        models_for_95=models_for_reliability(n_models, full, target=0.95),
        n_examples=int(always.sum()),
        n_excluded=int((~always).sum()),
        n_splits=n_splits,
    )


def half_scores(
    correct: NDArray[Any], mask: BoolArray, blocks: IntArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Memorization scores from two random halves of the blocks of models.

    Args:
        correct: Checked outcomes [M, n].
        mask: Checked membership [M, n].
        blocks: Block numbers [M] from 0 without gaps.
        rng: Source of the split.

    Returns:
        The two scores, float64[n]; NaN where a half has no model in, or none out.

    Example:
        >>> mask = np.array([[True], [False]] * 2)
        >>> half_scores(1.0 * mask, mask, np.array([0, 0, 1, 1]), np.random.default_rng(0))
        (array([1.]), array([1.]))
    """
    n_blocks = int(blocks.max()) + 1
    in_first = np.zeros(n_blocks, dtype=np.bool_)
    in_first[rng.permutation(n_blocks)[: n_blocks // 2]] = True
    chosen = in_first[blocks]
    scores = []
    for rows in (chosen, ~chosen):
        mean_in, mean_out = in_out_sums(correct[rows], mask[rows]).means()
        scores.append(mean_in - mean_out)
    return scores[0], scores[1]


def _pearson(first: FloatArray, second: FloatArray) -> float:
    """Pearson correlation, NaN (without a warning) where it does not exist."""
    if len(first) < 3:
        return float("nan")
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")
