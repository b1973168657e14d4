"""Influence values, computed tile by tile; behind ``influence`` and ``false_discovery_rate``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch

from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray, is_fractional
from lightning_memaudit.functional.influence._joint_counts import factor, joint_counts, popcount_pays
from lightning_memaudit.functional.memorization import in_out_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Tiles:
    """Influence of the train examples of the rows on the examples of the columns.

    Attributes:
        tile: Function of ascending row and column indices to a new float64[rows, columns].
        packed: Whether tiles come from population counts, on one thread each, or from products on all threads.
    """

    tile: Callable[[IntArray, IntArray], FloatArray]
    packed: bool

    def tile_shape(self, n_rows: int, block: int) -> tuple[int, int]:
        """Rows and columns of a tile at most: few cells stay in the cache, many make products efficient.

        Args:
            n_rows: Rows that there are.
            block: Rows that the user allows.
        """
        most, cells = (256, 2**17) if self.packed else (n_rows, 2**22)
        height = max(1, min(most, block, n_rows))
        return height, max(1, cells // height)

    def each(self, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Do work that uses tiles, on as many threads as torch may use.

        Args:
            work: Function of a job.
            jobs: The jobs.

        Yields:
            Results in the order of the jobs.
        """
        workers = torch.get_num_threads() if self.packed else 1
        if workers == 1:
            yield from map(work, jobs)
            return
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(work, jobs)


#: The values as a function of the membership mask: the one observed, or one permuted under the null hypothesis.
OfMask: TypeAlias = Callable[[BoolArray], Tiles]


def binary_or_float(correct: NDArray[Any]) -> NDArray[Any]:
    """Turn 0/1 outcomes to bool, which are counted exactly; leave fractions and NaN as float64.

    Args:
        correct: Checked outcomes [M, n].

    Returns:
        bool or float64 [M, n].

    Example:
        >>> binary_or_float(np.array([[0.0, 1.0]])).dtype, binary_or_float(np.array([[0.5]])).dtype
        (dtype('bool'), dtype('float64'))
    """
    if correct.dtype.kind in "bui":
        return correct.astype(np.bool_, copy=False)
    if is_fractional(correct) or np.isnan(correct).any():
        return correct.astype(np.float64, copy=False)
    return correct.astype(np.bool_)


def influence_tiles(correct: NDArray[Any], *, n_pairs: int) -> OfMask:
    """Influence on columns of outcomes: mean with the train example in minus mean with it out.

    Args:
        correct: bool or float64 [M, n_test].
        n_pairs: Values that will be asked for; many repay the start of faster counting.

    Returns:
        Function of the mask [M, n_train].

    Example:
        >>> mask = np.array([[True], [False]])
        >>> influence_tiles(mask, n_pairs=1)(mask).tile(np.array([0]), np.array([0]))
        array([[1.]])
    """
    packed = correct.dtype == np.bool_ and popcount_pays(len(correct), n_pairs)
    right = factor(lambda at: correct[:, at], correct.shape, packed=packed)
    total: FloatArray = correct.sum(axis=0, dtype=np.float64)

    def of(mask: BoolArray) -> Tiles:
        inside = factor(lambda at: mask[:, at], mask.shape, packed=packed)
        n_in: FloatArray = np.count_nonzero(mask, axis=0).astype(np.float64)
        n_out = _nan_below(1, len(mask) - n_in)
        _nan_below(1, n_in)

        def tile(rows: IntArray, columns: IntArray) -> FloatArray:
            count = joint_counts(inside, right, rows, columns)
            return _difference(count, total[columns], n_in[rows, None], n_out[rows, None])

        return Tiles(tile, packed)

    return of


def given_out_tiles(correct: NDArray[Any], mask: BoolArray, *, min_models: int, n_pairs: int) -> OfMask:
    """Influence of i on j among the models with j out.

    Args:
        correct: bool or float64 [M, n].
        mask: bool [M, n]; tells which models have j out.
        min_models: Models needed on either side; fewer give NaN.
        n_pairs: Values that will be asked for.

    Returns:
        Function of the mask [M, n] that tells which models have i in; the diagonal is NaN.

    Example:
        >>> mask = np.array([[True, False], [False, False]])
        >>> correct = np.array([[True, True], [False, False]])
        >>> tiles = given_out_tiles(correct, mask, min_models=1, n_pairs=2)(mask)
        >>> tiles.tile(np.array([0]), np.array([0, 1]))
        array([[nan,  1.]])
    """
    binary = correct.dtype == np.bool_
    packed = binary and popcount_pays(len(correct), 2 * n_pairs)

    def right_and_out(at: slice | IntArray) -> NDArray[Any]:
        outside = ~mask[:, at]
        return np.asarray(outside & correct[:, at] if binary else outside * correct[:, at])

    out = factor(lambda at: ~mask[:, at], mask.shape, packed=packed)
    right = factor(right_and_out, mask.shape, packed=packed)
    in_out = in_out_sums(correct, mask)

    def of(shown: BoolArray) -> Tiles:
        inside = factor(lambda at: shown[:, at], shown.shape, packed=packed)

        def tile(rows: IntArray, columns: IntArray) -> FloatArray:
            n_both = joint_counts(inside, out, rows, columns)
            n_rest = _nan_below(min_models, in_out.n_out[columns] - n_both)
            count = joint_counts(inside, right, rows, columns)
            found = _difference(count, in_out.sum_out[columns], _nan_below(min_models, n_both), n_rest)
            _, row, column = np.intersect1d(rows, columns, assume_unique=True, return_indices=True)
            found[row, column] = np.nan
            return found

        return Tiles(tile, packed)

    return of


def mutual_tiles(given_out: Tiles) -> Tiles:
    """The smaller of both directions, for i < j only; NaN elsewhere.

    Args:
        given_out: Tiles of ``given_out_tiles``.

    Returns:
        The values.

    Example:
        >>> tiles = mutual_tiles(Tiles(lambda rows, columns: rows[:, None] + 2.0 * columns, packed=False))
        >>> tiles.tile(np.array([0, 1]), np.array([1]))
        array([[ 1.],
               [nan]])
    """

    def tile(rows: IntArray, columns: IntArray) -> FloatArray:
        if rows[0] >= columns[-1]:
            return np.full((len(rows), len(columns)), np.nan)
        found: FloatArray = np.minimum(given_out.tile(rows, columns), given_out.tile(columns, rows).T)
        found[rows[:, None] >= columns] = np.nan
        return found

    return Tiles(tile, given_out.packed)


def _nan_below(least: int, numbers: FloatArray) -> FloatArray:
    """Make too small numbers of models NaN, and with them what is divided by them."""
    np.putmask(numbers, numbers < least, np.nan)
    return numbers


def _difference(count: FloatArray, total: FloatArray, n_in: FloatArray, n_out: FloatArray) -> FloatArray:
    """``count / n_in - (total - count) / n_out``; spends ``count``."""
    found: FloatArray = count / n_in
    count -= total
    count /= n_out
    found += count
    return found
