"""The pairs whose influence stands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lightning_memaudit.functional.checks import FloatArray, IntArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lightning_memaudit.functional.influence._tiles import Tiles

#: Rounding allowed where a value is compared with a threshold.
SLACK = 1e-12
#: Blocks of rows, ascending, and the columns that they share.
Stripe: TypeAlias = tuple[list[IntArray], IntArray]
#: Row, column and value of some pairs.
Triplets: TypeAlias = tuple[IntArray, NDArray[Any], FloatArray]


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


@dataclass(frozen=True, slots=True)
class Region:
    """The pairs to look at: some rows with some columns, within classes where labels are given.

    Attributes:
        rows: Train examples, ascending.
        columns: Examples that they may influence, ascending.
        row_labels: Class of every train example, not only of ``rows``; ``None`` with ``column_labels`` for all pairs.
        column_labels: Class of every example of the columns.

    Example:
        >>> Region(np.arange(3), np.arange(2), np.array([0, 1, 1]), np.array([1, 1])).size
        4
    """

    rows: IntArray
    columns: IntArray
    row_labels: IntArray | None = None
    column_labels: IntArray | None = None

    def classes(self) -> Iterator[tuple[IntArray, IntArray]]:
        """Rows and columns of each class, or all of them."""
        if self.row_labels is None or self.column_labels is None:
            yield self.rows, self.columns
            return
        first, second = self.row_labels[self.rows], self.column_labels[self.columns]
        for label in np.intersect1d(first, second):
            yield self.rows[first == label], self.columns[second == label]

    @property
    def size(self) -> int:
        """Number of pairs."""
        return sum(len(rows) * len(columns) for rows, columns in self.classes())

    def stripes(self, tiles: Tiles, block: int) -> Iterator[Stripe]:
        """Cut the region into stripes of columns, and those into blocks.

        Args:
            tiles: What will be asked for the tiles.
            block: Rows in a block at most.

        Yields:
            All blocks of rows of some columns, and the columns.
        """
        for rows, columns in self.classes():
            height, width = tiles.tile_shape(len(rows), block)
            blocks = [rows[top : top + height] for top in range(0, len(rows), height)]
            for left in range(0, len(columns), width):
                yield blocks, columns[left : left + width]


def select_pairs(
    tiles: Tiles, region: Region, *, block: int, top_k: int | None, threshold: float | None
) -> InfluencePairs:
    """Keep the pairs over a threshold, or the largest of each column, or the largest that are over it.

    Args:
        tiles: Influence values, tile by tile.
        region: Pairs to choose from.
        block: Rows in a block at most.
        top_k: Pairs kept for each column at most; ties go to the lower row.
        threshold: Smallest value kept.

    Returns:
        The pairs, the largest value first.

    Example:
        >>> from lightning_memaudit.functional.influence._tiles import Tiles
        >>> tiles = Tiles(lambda rows, columns: rows[:, None] + 0.0 * columns, packed=False)
        >>> region = Region(np.arange(3), np.arange(1))
        >>> select_pairs(tiles, region, block=2, top_k=1, threshold=None).train_index
        array([2])
    """
    least = np.finfo(np.float64).min if threshold is None else threshold - SLACK

    def chosen(stripe: Stripe) -> Triplets:
        blocks, columns = stripe
        width = len(columns)
        place = np.arange(width).astype(np.min_scalar_type(width))  # numpy sorts 16-bit integers many times faster
        parts: list[Triplets] = []
        floor: FloatArray | None = None
        for rows in blocks:
            found = tiles.tile(rows, columns)
            if floor is None:
                floor = np.full(width, least) if top_k is None else _first_floor(found, top_k, least)
            hits = np.flatnonzero(found >= floor)
            row, column = np.divmod(hits, width)
            parts.append((rows[row], place[column], found.ravel()[hits]))
            if top_k is not None and sum(len(part[0]) for part in parts) > 2 * top_k * width:
                parts = [_largest(_join(parts), top_k)]
                floor = _floor(parts[0], width, top_k, least)
        train, test, value = _join(parts) if top_k is None else _largest(_join(parts), top_k)
        return train, columns[test], value

    train, test, value = _join(tiles.each(chosen, region.stripes(tiles, block)))
    order = np.lexsort((test, train, -value))
    return InfluencePairs(train[order], test[order].astype(np.int64, copy=False), value[order])


def _join(parts: Iterable[Triplets]) -> Triplets:
    none = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint8), np.empty(0)
    rows, columns, values = zip(none, *parts, strict=True)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)


def _first_floor(found: FloatArray, top_k: int, least: float) -> FloatArray:
    """The values in the first block below which nothing can be among the largest of its column."""
    if len(found) <= top_k:
        return np.full(found.shape[1], least)
    kth = len(found) - top_k
    ordered = np.partition(np.where(np.isnan(found), -np.inf, found), kth, axis=0)
    return np.asarray(np.maximum(ordered[kth], least))


def _floor(kept: Triplets, width: int, top_k: int, least: float) -> FloatArray:
    """The same for the blocks that follow; there a value must be larger, not equal, since ties go to the lower row."""
    _, columns, values = kept
    smallest = np.full(width, np.inf)
    np.minimum.at(smallest, columns, values)
    full = np.bincount(columns, minlength=width) >= top_k
    return np.where(full, np.maximum(np.nextafter(smallest, np.inf), least), least)


def _largest(found: Triplets, top_k: int) -> Triplets:
    """The largest of each column; among equals those that come first, which are those of the lower rows."""
    rows, columns, values = found
    order = np.argsort(-values, kind="stable")
    order = order[np.argsort(columns[order], kind="stable")]
    size = np.bincount(columns)
    rank = np.arange(len(order)) - (np.cumsum(size) - size)[columns[order]]
    order = order[rank < top_k]
    return rows[order], columns[order], values[order]
