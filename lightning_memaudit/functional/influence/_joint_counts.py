"""Exact counts of the models in which two things are both true, by population count or by a matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_memaudit.compat import torch as compat
from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray

#: Outcomes at some columns, made when they are asked for: bool or float64 [M, b].
Columns: TypeAlias = Callable[[slice | IntArray], NDArray[Any]]
Product: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_REPAID = 2**37  # models × pairs at which counting bits saves what importing numba and compiling cost, about 1.5 s
_SHAPES = ((1, 33, 2), (2, 1, 1), (3, 5, 7), (17, 64, 1), (33, 100, 65), (64, 257, 16))


@dataclass(frozen=True, slots=True)
class Factor:
    """One side of a table of counts.

    Attributes:
        columns: The outcomes of chosen columns.
        words: All columns packed, uint64[n, ⌈M / 64⌉]; ``None`` where matrices are multiplied.
    """

    columns: Columns
    words: NDArray[np.uint64] | None


def popcount_pays(n_models: int, n_pairs: int) -> bool:
    """Tell whether to count bits rather than multiply matrices: numba is there, and was used or will repay its start.

    Args:
        n_models: M.
        n_pairs: Pairs of columns that will be counted.

    Returns:
        Whether factors should be packed.

    Example:
        >>> isinstance(popcount_pays(100, 10), bool)
        True
    """
    started = _kernel.cache_info().currsize > 0
    return (started or n_models * n_pairs >= _REPAID) and _kernel() is not None


@cache
def _kernel() -> Callable[[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int32]], None] | None:
    """The compiled population count; ``None`` without a numba that suits the installed numpy."""
    try:
        from lightning_memaudit.functional.influence._popcount import common_ones
    except ImportError:
        return None
    return common_ones


def factor(columns: Columns, shape: tuple[int, ...], *, packed: bool) -> Factor:
    """Prepare outcomes for ``joint_counts``.

    Args:
        columns: Outcomes; bool when ``packed``.
        shape: M and the number of columns.
        packed: Count bits, in an eighth of the memory of bool: on one thread, and safe on several at once.
            Otherwise multiply matrices, for which torch uses all its threads.

    Returns:
        The factor.

    Example:
        >>> inside = np.array([[True, True], [False, True]])
        >>> factor(lambda at: inside[:, at], inside.shape, packed=False).words is None
        True
    """
    return Factor(columns, pack(columns, shape) if packed else None)


def joint_counts(first: Factor, second: Factor, rows: IntArray, columns: IntArray) -> FloatArray:
    """Sum ``second`` over the models in which ``first`` is true, for every pair of chosen columns.

    Args:
        first: 0/1 outcomes.
        second: 0/1 outcomes or, if neither is packed, fractions.
        rows: Columns of ``first``, ascending.
        columns: Columns of ``second``, ascending.

    Returns:
        A new float64[rows, columns].

    Example:
        >>> inside = np.array([[True, True], [False, True]])
        >>> both = factor(lambda at: inside[:, at], inside.shape, packed=False)
        >>> joint_counts(both, both, np.array([0, 1]), np.array([0]))
        array([[1.],
               [1.]])
    """
    if first.words is None or second.words is None or (kernel := _kernel()) is None:
        return cross_counts(first.columns(span(rows)), second.columns(span(columns)))
    found = np.empty((len(rows), len(columns)), dtype=np.int32)
    kernel(first.words[span(rows)], second.words[span(columns)], found)
    return found.astype(np.float64)


def span(indices: IntArray) -> slice | IntArray:
    """Turn indices without gaps into a slice, which numpy answers with a view and not with a copy.

    Args:
        indices: Ascending.

    Returns:
        The slice, or the indices themselves.

    Example:
        >>> span(np.array([3, 4, 5])), span(np.array([3, 5]))
        (slice(3, 6, None), array([3, 5]))
    """
    if len(indices) and indices[-1] - indices[0] == len(indices) - 1:
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


def pack(columns: Columns, shape: tuple[int, ...], *, at_once: int = 2048) -> NDArray[np.uint64]:
    """Pack the models of each column into 64-bit words; the bits after the last model are 0.

    Args:
        columns: bool outcomes.
        shape: M and the number of columns.
        at_once: Columns that are asked for at a time.

    Returns:
        uint64[n, ⌈M / 64⌉].

    Example:
        >>> np.bitwise_count(pack(lambda at: np.ones((70, 1), dtype=bool)[:, at], (70, 1)))
        array([[64,  6]], dtype=uint8)
    """
    n_models, n_columns = shape
    n_words = -(-n_models // 64)
    words = np.empty((n_columns, n_words), dtype=np.uint64)
    for start in range(0, n_columns, at_once):
        part = columns(slice(start, start + at_once))
        bits = np.zeros((n_words * 64, part.shape[1]), dtype=np.uint8)
        bits[:n_models] = part
        # Eight times faster than np.packbits along the first axis.
        octets = bits[::8].copy()
        for bit in range(1, 8):
            octets |= bits[bit::8] << bit
        words[start : start + at_once] = np.ascontiguousarray(octets.T).view(np.uint64)
    return words


def cross_counts(first: BoolArray, second: NDArray[Any], *, int8: bool | None = None) -> FloatArray:
    """Sum ``second`` over the models in which ``first`` is true, for every pair of columns: ``first.T @ second``.

    0/1 factors are multiplied as int8 into int32 where the processor is quick at that, else as float32; both are exact
    for fewer than 2²⁴ models, and bfloat16 is not. Fractions are multiplied in float64.

    Args:
        first: bool [M, a].
        second: bool or float64 [M, b].
        int8: Multiply 0/1 factors as int8 (or as float32); ``None``: as is faster here.

    Returns:
        float64 [a, b]; whole numbers from 0/1 factors.

    Example:
        >>> cross_counts(np.array([[True], [True]]), np.array([[True, False], [True, True]]))
        array([[2., 1.]])
    """
    if second.dtype != np.bool_:
        return np.asarray(first.T.astype(np.float64) @ second)
    int8 = _int8_is_faster() if int8 is None else int8
    a, b = (torch.from_numpy(x.astype(np.int8 if int8 else np.float32, order="C")) for x in (first.T, second))
    product = int8_product(a, b) if int8 else a @ b
    return np.asarray(product.numpy(), dtype=np.float64)


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
    if len(a) == 1:  # torch 2.13 answers one row with what was in memory before, where there is AVX-512
        a = a.expand(2, -1).contiguous()
        return int8_product(a, b)[:1]
    return compat.int8_product(a, b)


@cache
def _int8_is_faster(product: Product = int8_product) -> bool:
    """Time both products; without int8 dot instructions the int8 one is a hundred times slower, or even wrong."""
    a = torch.ones((256, 256), dtype=torch.int8)
    b = a.float()
    try:
        if not all(_int8_is_right(product, *shape) for shape in _SHAPES):
            return False
        return _least_seconds(lambda: product(a, a)) < _least_seconds(lambda: b @ b)
    except (AttributeError, RuntimeError):
        return False


def _int8_is_right(product: Product, p: int, q: int, s: int) -> bool:
    """Hold a product of 0/1 matrices against that of int64."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(2, size, generator=generator, dtype=torch.int8) for size in ((p, q), (q, s)))
    return torch.equal(product(a, b).long(), a.long() @ b.long())


def _least_seconds(product: Callable[[], torch.Tensor]) -> float:
    """The least of several times: on a busy machine a short product may wait long for its threads."""
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
