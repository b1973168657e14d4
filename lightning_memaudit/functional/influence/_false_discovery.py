"""How many of the pairs that stand out would do so by chance, and which examples are near-duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from lightning_memaudit.functional.checks import (
    Array,
    BoolArray,
    FloatArray,
    IntArray,
    argument_error,
    as_array,
    as_blocks,
    as_choice,
    as_correct,
    as_indices,
    as_mask,
    as_outcomes,
    as_positive_int,
    as_probability,
)
from lightning_memaudit.functional.influence._pairs import SLACK, Region, Stripe, select_pairs
from lightning_memaudit.functional.influence._tiles import (
    Tiles,
    binary_or_float,
    given_out_tiles,
    influence_tiles,
    mutual_tiles,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Statistic = Literal["influence", "given-out", "mutual"]


@dataclass(frozen=True, slots=True)
class FalseDiscoveryRate:
    """Pairs over each threshold, and how many of them chance alone would give.

    The hypothesis is influence = 0, not influence below the threshold.

    Attributes:
        thresholds: Ascending, float64[T].
        observed: Pairs at or over each, int64[T].
        expected_false: ``(1 + pairs over it in all permutations) / permutations``, float64[T].
        rate: ``expected_false / observed``, at most 1; NaN where nothing was observed.
        n_permutations: Permutations.
        n_columns: Columns that were looked at.
    """

    thresholds: FloatArray
    observed: IntArray
    expected_false: FloatArray
    rate: FloatArray
    n_permutations: int
    n_columns: int


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Pairs of examples that stand in for each other, the strongest first.

    Attributes:
        first: The lower index, int64[P].
        second: The higher index, int64[P].
        score: min(infl(i→j | j out), infl(j→i | i out)), float64[P], descending.
        threshold: Smallest score kept; NaN when no threshold met the false discovery rate.
        false_discovery_rate: Estimated rate at that threshold; NaN with it.
    """

    first: IntArray
    second: IntArray
    score: FloatArray
    threshold: float
    false_discovery_rate: float


def false_discovery_rate(
    correct: Array,
    mask: Array,
    *,
    thresholds: Array | None = None,
    statistic: Statistic = "influence",
    labels_train: Array | None = None,
    labels_test: Array | None = None,
    rows: Array | None = None,
    n_permutations: int = 20,
    max_columns: int | None = None,
    min_models: int = 1,
    blocks: Array | None = None,
    seed: int = 0,
    block: int = 2048,
) -> FalseDiscoveryRate:
    """Estimate the false discovery rate of influence by permuting masks against outcomes.

    Rows of the mask are dealt anew to the models, all columns together, so that columns stay as dependent as they are.
    For ``"given-out"`` and ``"mutual"`` only the mask of i is dealt anew: which models have j out stays as it was,
    since outcomes on j do depend on it. All pairs are taken as null, so the rate is conservative where many are not.
    The cost is that of ``n_permutations + 1`` influence matrices.

    Args:
        correct: Outcomes [M, n_columns]: on test examples, or on the train examples for the other two statistics.
        mask: Membership [M, n_train].
        thresholds: Grid; ``None``: .05 to 1 by .05.
        statistic: ``"influence"``, ``"given-out"``, or ``"mutual"`` (the smaller of both directions, each pair once).
        labels_train: With ``labels_test``: only pairs within a class.
        labels_test: Classes of the columns; left out for train on train.
        rows: Indices of candidate train examples, such as the memorized ones; ``None``: all.
        n_permutations: B.
        max_columns: Look at a random choice of this many columns, to bound the cost; ``None``: all.
        min_models: As for ``influence_given_out``.
        blocks: Models that are dealt together [M], all blocks of one size; ``None``: each alone.
        seed: Seed of permutations and columns.
        block: Rows in a block.

    Returns:
        Observed and expected false pairs at each threshold, and their ratio.

    Raises:
        ArgumentError: Malformed arrays or an option out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = rng.random((100, 20)) < 0.5
        >>> found = false_discovery_rate(mask[:, :5], mask, thresholds=[0.9])
        >>> found.observed, found.rate
        (array([5]), array([0.01]))
    """
    as_choice(statistic, name="statistic", options=get_args(Statistic))
    if statistic == "influence":
        checked = as_correct(correct)
        inside = as_mask(mask, n_models=len(checked))
    else:
        checked, inside = as_outcomes(correct, mask)
    outcomes = binary_or_float(checked)
    n_models, n_train, n_columns = len(inside), inside.shape[1], outcomes.shape[1]
    row_labels, column_labels = _labels(
        labels_train, labels_test, n_train, n_columns, test_on_train=statistic != "influence"
    )
    grid = (
        np.arange(0.05, 1.001, 0.05) if thresholds is None else np.sort(as_array(thresholds, name="thresholds", ndim=1))
    )
    if len(grid) == 0:
        raise argument_error("thresholds", grid, "at least one number is needed")
    n_permutations = as_positive_int(n_permutations, name="n_permutations")
    min_models, block = as_positive_int(min_models, name="min_models"), as_positive_int(block, name="block")
    rng = np.random.default_rng(seed)
    columns = np.arange(n_columns)
    if max_columns is not None and max_columns < n_columns:
        columns = np.sort(rng.permutation(n_columns)[: as_positive_int(max_columns, name="max_columns")])
    chosen = np.arange(n_train)
    if rows is not None:
        listed = as_array(rows, name="rows", ndim=1, dtype=None)
        chosen = np.unique(as_indices(listed, name="rows", size=len(listed), upper=n_train))

    region = Region(chosen, columns, row_labels, column_labels)
    tiles = _tiles_of(statistic, outcomes, inside, min_models=min_models, n_pairs=region.size * (n_permutations + 1))

    def count(shown: BoolArray) -> IntArray:
        return _count_over(tiles(shown), region, block, grid)

    observed = count(inside)
    false = np.zeros(len(grid), dtype=np.int64)
    for _ in range(n_permutations):
        false += count(inside[_dealt_anew(n_models, blocks, rng)])
    expected: FloatArray = (1.0 + false) / n_permutations
    rate = np.where(observed > 0, np.minimum(expected / np.maximum(observed, 1), 1.0), np.nan)
    return FalseDiscoveryRate(grid, observed, expected, rate, n_permutations, len(columns))


def threshold_for_fdr(found: FalseDiscoveryRate, *, level: float = 0.05) -> float:
    """Smallest threshold on the grid whose estimated false discovery rate is at most a level.

    Args:
        found: What ``false_discovery_rate`` returned.
        level: Rate allowed.

    Returns:
        The threshold; NaN where none will do.

    Raises:
        ArgumentError: ``level`` is not in (0, 1).

    Example:
        >>> rates = FalseDiscoveryRate(
        ...     np.array([0.1, 0.2]), np.array([9, 5]), np.array([4.0, 0.1]), np.array([0.44, 0.02]), 10, 5
        ... )
        >>> threshold_for_fdr(rates)
        0.2
    """
    allowed = found.thresholds[found.rate <= as_probability(level, name="level")]
    return float(allowed.min()) if len(allowed) else float("nan")


def near_duplicates(
    correct: Array,
    mask: Array,
    *,
    labels: Array | None = None,
    level: float = 0.05,
    influence_threshold: float = 0.5,
    n_permutations: int = 20,
    max_columns: int | None = None,
    min_models: int = 5,
    blocks: Array | None = None,
    seed: int = 0,
    block: int = 2048,
) -> NearDuplicates:
    """Find pairs of train examples either of which makes models right on the other while that one is out.

    A pair is kept when the smaller of its two influences given out is at least ``influence_threshold`` and at least the
    threshold at which the estimated false discovery rate is ``level``.

    Args:
        correct: Outcomes on the train examples [M, n].
        mask: Membership [M, n].
        labels: Classes [n]; when given, only pairs within a class.
        level: False discovery rate allowed.
        influence_threshold: Smallest score kept whatever the rate.
        n_permutations: Permutations for the rate.
        max_columns: Estimate the rate on this many columns; the search itself is over all.
        min_models: Models needed on either side of each influence.
        blocks: Models that are permuted together [M].
        seed: Seed of the permutations.
        block: Rows in a block.

    Returns:
        The pairs, empty when no threshold meets the rate.

    Raises:
        ArgumentError: As ``false_discovery_rate``.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = rng.random((200, 10)) < 0.7
        >>> correct = mask.copy()
        >>> correct[:, 3] = correct[:, 8] = mask[:, 3] | mask[:, 8]
        >>> found = near_duplicates(correct, mask)
        >>> found.first, found.second, found.score
        (array([3]), array([8]), array([1.]))
    """
    if not 0 < influence_threshold <= 1:
        raise argument_error("influence_threshold", influence_threshold, "a number in (0, 1] is needed")
    checked, inside = as_outcomes(correct, mask)
    if labels is not None:
        labels = as_indices(labels, name="labels", size=inside.shape[1])
    rates = false_discovery_rate(
        checked,
        inside,
        thresholds=np.linspace(influence_threshold, 1.0, 11),
        statistic="mutual",
        labels_train=labels,
        n_permutations=n_permutations,
        max_columns=max_columns,
        min_models=min_models,
        blocks=blocks,
        seed=seed,
        block=block,
    )
    threshold = threshold_for_fdr(rates, level=level)
    if np.isnan(threshold):
        none = np.empty(0, dtype=np.int64)
        return NearDuplicates(none, none, np.empty(0), threshold, float("nan"))
    n = inside.shape[1]
    row_labels, column_labels = _labels(labels, None, n, n, test_on_train=True)
    region = Region(np.arange(n), np.arange(n), row_labels, column_labels)
    tiles = _tiles_of("mutual", binary_or_float(checked), inside, min_models=min_models, n_pairs=region.size)(inside)
    pairs = select_pairs(tiles, region, block=block, top_k=None, threshold=threshold)
    rate = float(rates.rate[rates.thresholds == threshold][0])
    return NearDuplicates(pairs.train_index, pairs.test_index, pairs.influence, threshold, rate)


def _tiles_of(
    statistic: Statistic, correct: NDArray[Any], mask: BoolArray, *, min_models: int, n_pairs: int
) -> Callable[[BoolArray], Tiles]:
    """The values of a statistic as a function of the mask that is shown."""
    if statistic == "influence":
        return influence_tiles(correct, n_pairs=n_pairs)
    given_out = given_out_tiles(correct, mask, min_models=min_models, n_pairs=n_pairs)
    return given_out if statistic == "given-out" else lambda shown: mutual_tiles(given_out(shown))


def _labels(
    train: Array | None, test: Array | None, n_train: int, n_columns: int, *, test_on_train: bool
) -> tuple[IntArray | None, IntArray | None]:
    """Check labels; train on train has one set of them."""
    if train is None and test is None:
        return None, None
    if test_on_train and test is None:
        test = train
    if train is None or test is None:
        raise argument_error(
            "labels_test" if test is None else "labels_train", None, "both labels are needed, or neither"
        )
    return (
        as_indices(train, name="labels_train", size=n_train),
        as_indices(test, name="labels_test", size=n_columns),
    )


def _count_over(tiles: Tiles, region: Region, block: int, grid: FloatArray) -> IntArray:
    """Count values at or over each threshold of an ascending grid."""
    none = np.zeros(len(grid) + 1, dtype=np.int64)

    def counts(stripe: Stripe) -> IntArray:
        blocks, columns = stripe
        found = none.copy()
        for rows in blocks:
            tile = tiles.tile(rows, columns)
            large = tile[tile >= grid[0] - SLACK]
            found += np.bincount(np.searchsorted(grid, large + SLACK, side="right"), minlength=len(grid) + 1)
        return found

    bins = sum(tiles.each(counts, region.stripes(tiles, block)), start=none)
    return np.cumsum(bins[::-1])[::-1][1:].copy()


def _dealt_anew(n_models: int, blocks: Array | None, rng: np.random.Generator) -> IntArray:
    """A random order of models that keeps blocks together; within a block the order is random too."""
    if blocks is None:
        return rng.permutation(n_models)
    codes = as_blocks(blocks, n_models)
    sizes = np.bincount(codes)
    if (sizes != sizes[0]).any():
        raise argument_error(
            "blocks",
            codes,
            f"blocks of one size are needed to permute them; there are {sizes.min()} to {sizes.max()} models",
        )
    members = np.argsort(codes, kind="stable").reshape(len(sizes), sizes[0])
    source = rng.permuted(members[rng.permutation(len(sizes))], axis=1)
    order = np.empty(n_models, dtype=np.int64)
    order[members.ravel()] = source.ravel()
    return order
