"""Blocks of influence values and the pairs that stand out; the workings behind ``influence`` and ``discovery``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from lightning_memaudit.functional.arms import divide
from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray, is_fractional

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Influence of the train examples of the first index on the examples of the second, float64[rows, columns].
Values: TypeAlias = Callable[[IntArray, IntArray], FloatArray]
#: Rounding allowed where a value is compared with a threshold.
SLACK = 1e-12
_CELLS = 2**22


@dataclass(frozen=True, slots=True)
class InfluencePairs:
    """Pairs of a train and a test example, the largest influence first.

    Attributes:
        train_index: Row of each pair, int64[P].
        test_index: Column of each pair, int64[P].
        influence: Value of each pair, float64[P], descending.
    """

    train_index: IntArray
    test_index: IntArray
    influence: FloatArray


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


def cross_counts(first: BoolArray, second: NDArray[Any]) -> NDArray[Any]:
    """Sum ``second`` over the models in which ``first`` is true, for every pair of columns: ``first.T @ second``.

    0/1 factors are multiplied as int8 into int32 where the processor is quick at that, else as float32; both are exact
    for fewer than 2²⁴ models, and bfloat16 is not. Fractions are multiplied in float64.

    Args:
        first: bool [M, a].
        second: bool or float64 [M, b].

    Returns:
        float32 (whole numbers) or float64, [a, b].

    Example:
        >>> cross_counts(np.array([[True], [True]]), np.array([[True, False], [True, True]]))
        array([[2., 1.]], dtype=float32)
    """
    if second.dtype != np.bool_:
        return np.asarray(first.T.astype(np.float64) @ second)
    kind = torch.int8 if _int8_is_faster() else torch.float32
    a = torch.from_numpy(np.ascontiguousarray(first.T)).to(kind)
    b = torch.from_numpy(np.ascontiguousarray(second)).to(kind)
    product = int8_product(a, b).to(torch.float32) if kind == torch.int8 else a @ b
    return np.asarray(product.numpy())


def int8_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Product of two int8 matrices in int32.

    Args:
        a: int8 [p, q].
        b: int8 [q, s].

    Returns:
        int32 [p, s].

    Example:
        >>> int8_product(torch.ones(1, 3, dtype=torch.int8), torch.ones(3, 1, dtype=torch.int8)).item()
        3
    """
    product: torch.Tensor = torch._int_mm(a, b)
    return product


@cache
def _int8_is_faster() -> bool:
    """Time both products once; without int8 dot instructions the int8 one is many times slower."""
    a = torch.ones((256, 256), dtype=torch.int8)
    b = a.float()

    def seconds(product: Callable[[], torch.Tensor]) -> float:
        product()
        start = time.perf_counter()
        product()
        return time.perf_counter() - start

    try:
        return seconds(lambda: int8_product(a, a)) < seconds(lambda: b @ b)
    except (AttributeError, RuntimeError):
        return False


def influence_values(correct: NDArray[Any], mask: BoolArray) -> Values:
    """Influence on columns of outcomes: mean with the train example in minus mean with it out.

    Args:
        correct: bool or float64 [M, n_test].
        mask: bool [M, n_train].

    Returns:
        Function of row and column indices.

    Example:
        >>> mask = np.array([[True], [False]])
        >>> influence_values(mask, mask)(np.array([0]), np.array([0]))
        array([[1.]])
    """
    n_in: FloatArray = np.count_nonzero(mask, axis=0).astype(np.float64)
    n_out = len(mask) - n_in
    total: FloatArray = correct.sum(axis=0, dtype=np.float64)

    def values(rows: IntArray, columns: IntArray) -> FloatArray:
        count = cross_counts(mask[:, rows], correct[:, columns])
        rest: FloatArray = total[columns] - count
        found = divide(count.astype(np.float64, copy=False), n_in[rows, None])
        found -= divide(rest, n_out[rows, None])
        return found

    return values


def given_out_values(correct: NDArray[Any], mask: BoolArray, shown: BoolArray, *, min_models: int) -> Values:
    """Influence of i on j among the models with j out.

    Args:
        correct: bool or float64 [M, n].
        mask: bool [M, n]; tells which models have j out.
        shown: bool [M, n]; tells which have i in: ``mask``, or its rows permuted under the null hypothesis.
        min_models: Models needed on either side; fewer give NaN.

    Returns:
        Function of row and column indices; its diagonal is NaN.

    Example:
        >>> mask = np.array([[True, False], [False, False]])
        >>> correct = np.array([[True, True], [False, False]])
        >>> given_out_values(correct, mask, mask, min_models=1)(np.array([0]), np.array([0, 1]))
        array([[nan,  1.]])
    """

    def values(rows: IntArray, columns: IntArray) -> FloatArray:
        out = ~mask[:, columns]
        right = out & correct[:, columns] if correct.dtype == np.bool_ else out * correct[:, columns]
        n_both = cross_counts(shown[:, rows], out).astype(np.float64)
        count = cross_counts(shown[:, rows], right).astype(np.float64, copy=False)
        n_rest: FloatArray = np.count_nonzero(out, axis=0) - n_both
        found = divide(count, n_both)
        found -= divide(right.sum(axis=0, dtype=np.float64) - count, n_rest)
        found[(n_both < min_models) | (n_rest < min_models) | (rows[:, None] == columns)] = np.nan
        return found

    return values


def mutual_values(given_out: Values) -> Values:
    """The smaller of both directions, for i < j only; NaN elsewhere.

    Args:
        given_out: Values of ``given_out_values``.

    Returns:
        Function of row and column indices.

    Example:
        >>> values = mutual_values(lambda rows, columns: rows[:, None] + 2.0 * columns)
        >>> values(np.array([0, 1]), np.array([1]))
        array([[ 1.],
               [nan]])
    """

    def values(rows: IntArray, columns: IntArray) -> FloatArray:
        if rows[0] >= columns[-1]:
            return np.full((len(rows), len(columns)), np.nan)
        found: FloatArray = np.minimum(given_out(rows, columns), given_out(columns, rows).T)
        found[rows[:, None] >= columns] = np.nan
        return found

    return values


def tiles(
    rows: IntArray,
    columns: IntArray,
    *,
    block: int,
    row_labels: IntArray | None = None,
    column_labels: IntArray | None = None,
) -> Iterator[tuple[IntArray, IntArray]]:
    """Cut rows and columns into blocks of bounded size, within classes where labels are given.

    Args:
        rows: Row indices, ascending.
        columns: Column indices, ascending.
        block: Rows in a block at most; a block has about four million cells at most.
        row_labels: Class of every train example; ``None`` with ``column_labels`` for all pairs.
        column_labels: Class of every test example.

    Yields:
        Row and column indices; all row blocks of one column block in turn.

    Example:
        >>> [(r.tolist(), c.tolist()) for r, c in tiles(np.arange(3), np.arange(2), block=2)]
        [([0, 1], [0, 1]), ([2], [0, 1])]
    """
    if row_labels is not None and column_labels is not None:
        for label in np.intersect1d(row_labels[rows], column_labels[columns]):
            inside = rows[row_labels[rows] == label], columns[column_labels[columns] == label]
            yield from tiles(*inside, block=block)
        return
    width = max(1, _CELLS // min(block, max(len(rows), 1)))
    for left in range(0, len(columns), width):
        for top in range(0, len(rows), block):
            yield rows[top : top + block], columns[left : left + width]


def select_pairs(
    values: Values, cuts: Iterator[tuple[IntArray, IntArray]], *, top_k: int | None, threshold: float | None
) -> InfluencePairs:
    """Keep the pairs over a threshold, or the largest of each column, or the largest that are over it.

    Args:
        values: What ``influence_values`` and its like return.
        cuts: What ``tiles`` yields.
        top_k: Pairs kept for each column at most; ties go to the lower row.
        threshold: Smallest value kept.

    Returns:
        The pairs, the largest value first.

    Example:
        >>> cuts = tiles(np.arange(3), np.arange(1), block=2)
        >>> select_pairs(lambda rows, columns: rows[:, None] * 1.0, cuts, top_k=1, threshold=None).train_index
        array([2])
    """
    least = -np.inf if threshold is None else threshold - SLACK
    done: list[tuple[IntArray, IntArray, FloatArray]] = []
    kept, columns_now = _empty(), np.empty(0, dtype=np.int64)
    for rows, columns in cuts:
        found = values(rows, columns)
        found[np.isnan(found)] = -np.inf
        if top_k is not None:
            if not np.array_equal(columns, columns_now):
                done.append(kept)
                kept, columns_now = _empty(), columns
            floor = _column_floor(kept, found, columns, top_k)
            hits = np.nonzero((found >= np.maximum(floor, least)) & (found > -np.inf))
        else:
            hits = np.nonzero(found >= least if threshold is not None else found > -np.inf)
        new = rows[hits[0]], columns[hits[1]], found[hits]
        if top_k is None:
            done.append(new)
        else:
            kept = _largest(_join([kept, new]), top_k)
    train, test, value = _join([*done, kept])
    order = np.lexsort((test, train, -value))
    return InfluencePairs(train[order], test[order], value[order])


def _empty() -> tuple[IntArray, IntArray, FloatArray]:
    return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)


def _join(parts: list[tuple[IntArray, IntArray, FloatArray]]) -> tuple[IntArray, IntArray, FloatArray]:
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )


def _column_floor(
    kept: tuple[IntArray, IntArray, FloatArray], found: FloatArray, columns: IntArray, top_k: int
) -> FloatArray:
    """A value below which nothing in the block can be among the largest of its column."""
    if len(kept[0]) == 0 and len(found) > top_k:
        return np.asarray(np.partition(found, len(found) - top_k, axis=0)[len(found) - top_k])
    place = np.searchsorted(columns, kept[1])
    full = np.bincount(place, minlength=len(columns)) >= top_k
    floor = np.full(len(columns), np.inf)
    np.minimum.at(floor, place, kept[2])
    # A later row must be larger, not equal: ties go to the lower row.
    return np.where(full, np.nextafter(floor, np.inf), -np.inf)


def _largest(triplets: tuple[IntArray, IntArray, FloatArray], top_k: int) -> tuple[IntArray, IntArray, FloatArray]:
    """The largest of each column, the lower row first among equals."""
    rows, columns, values = triplets
    order = np.lexsort((rows, -values, columns))
    rows, columns, values = rows[order], columns[order], values[order]
    chosen = np.arange(len(columns)) - np.searchsorted(columns, columns) < top_k
    return rows[chosen], columns[chosen], values[chosen]
