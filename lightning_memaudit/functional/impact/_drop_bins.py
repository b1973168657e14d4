"""Drop by bin of memorization, the two from different models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.functional.impact._drops import DropResult, accuracy_drop
from lightning_memaudit.functional.impact._paired_arms import Condition, paired_arms
from lightning_memaudit.functional.memorization import MEMORIZATION_BINS, in_out_sums, memorization_bins
from lightning_memaudit.functional.subgroups import by_group

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import Array, FloatArray


@dataclass(frozen=True, slots=True)
class DropByMemorization:
    """Drop by bin of memorization, the two from different models.

    Attributes:
        edges: Edges of the bins, float64[B + 1].
        memorization: Mean score in each bin, float64[B]; NaN for an empty one.
        drop: Drop of each bin.
        n_unscored: Examples without a score, which are in no bin.
        condition: Whether only models with the example out of their subset (or in it) enter the drop.
    """

    edges: FloatArray
    memorization: FloatArray
    drop: DropResult
    n_unscored: int
    condition: Condition


def drop_by_memorization(
    base: Array,
    mask: Array,
    treated: Array,
    *,
    pairs: Array | None = None,
    treated_mask: Array | None = None,
    condition: Condition = "out",
    blocks: Array | None = None,
    edges: Array = MEMORIZATION_BINS,
    seed: int = 0,
    level: float = 0.95,
) -> DropByMemorization:
    """Drop by bin of memorization: the picture beside ``memorization_slope``, which is the figure.

    Bins come from other models than the drop (those without a treated counterpart, or a random half), so that a chance
    error in the one is not one in the other. Scores are noisy, so that bins are less apart than they look.

    Args:
        base: Outcomes of the base arm on the training examples [M0, n].
        mask: Membership of the base models [M0, n].
        treated: Outcomes of the treated arm [M1, n].
        pairs: As for ``memorization_slope``.
        treated_mask: As for ``memorization_slope``.
        condition: As for ``memorization_slope``.
        blocks: As for ``memorization_slope``.
        edges: Ascending edges [B + 1].
        seed: Seed of the split.
        level: Two-sided confidence level of each bin by itself.

    Returns:
        One entry a bin.

    Raises:
        ArgumentError: As ``memorization_slope``, or malformed edges.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = rng.random((40, 100)) < 0.5
        >>> base = rng.random((40, 100)) < 0.1 + 0.8 * mask * (np.arange(100) < 20)
        >>> found = drop_by_memorization(base, mask, base, pairs=np.arange(40))
        >>> int(found.drop.n.sum()) + found.n_unscored, float(found.drop.drop[0])
        (100, 0.0)
    """
    models = paired_arms(base, mask, treated, pairs, treated_mask, condition, blocks)
    rng = np.random.default_rng(seed)
    counterparts = models.paired_blocks()
    if 2 * len(counterparts) > models.n_blocks:
        counterparts = rng.permutation(counterparts)[: len(counterparts) // 2]
    judged = np.isin(models.blocks, counterparts)
    arms = in_out_sums(models.base[~judged], models.mask[~judged])
    mean_in, mean_out = arms.means()
    memorization = mean_in - mean_out
    codes, cuts = memorization_bins(memorization, edges)
    scored, n_bins = codes >= 0, len(cuts) - 1
    base_cells, treated_cells = models.judged()
    if models.pairs is None:
        rows, kept = np.flatnonzero(judged), np.arange(len(models.treated))
    else:
        kept = np.flatnonzero(judged[models.pairs])
        rows = models.pairs[kept]
    first = np.where(base_cells[rows], models.base[rows], np.nan)[:, scored]
    second = np.where(treated_cells[kept], models.treated[kept], np.nan)[:, scored]
    drop = accuracy_drop(first, second, codes[scored], paired=models.pairs is not None, level=level, n_groups=n_bins)
    return DropByMemorization(
        edges=cuts,
        memorization=by_group(memorization[scored], codes[scored], n_groups=n_bins),
        drop=drop,
        n_unscored=int((~scored).sum()),
        condition=condition,
    )
