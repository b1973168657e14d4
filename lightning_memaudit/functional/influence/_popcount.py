"""Bits in common of packed words, compiled by numba (extra ``fast``); ``_joint_counts`` imports it where it pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMNS = 64  # rows of the second factor at a time; with 2000 models they fill half of a first-level cache
_PAIRS, _NIBBLES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_BYTES, _ALL = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
_ONE, _TWO, _FOUR, _LAST = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


@numba.njit("uint64(uint64)", nogil=True)
def ones(word: np.uint64) -> np.uint64:
    """Count the bits set in a word; LLVM knows this idiom and turns it into the processor's own instruction.

    Args:
        word: Any word.

    Returns:
        Bits set in it.

    Example:
        >>> ones(np.uint64(0b1011))
        3
    """
    word = word - ((word >> _ONE) & _PAIRS)
    word = (word & _NIBBLES) + ((word >> _TWO) & _NIBBLES)
    return (((word + (word >> _FOUR)) & _BYTES) * _ALL) >> _LAST


@numba.njit("void(uint64[:, ::1], uint64[:, ::1], int32[:, ::1])", nogil=True)
def common_ones(first: NDArray[np.uint64], second: NDArray[np.uint64], out: NDArray[np.int32]) -> None:
    """Count the bits that each row of ``first`` has in common with each row of ``second``.

    Args:
        first: Packed rows, uint64[a, W].
        second: Packed rows, uint64[b, W].
        out: Filled with the counts, int32[a, b].

    Example:
        >>> common = np.empty((1, 1), dtype=np.int32)
        >>> common_ones(np.array([[6]], dtype=np.uint64), np.array([[3]], dtype=np.uint64), common)
        >>> common
        array([[1]], dtype=int32)
    """
    for left in range(0, second.shape[0], _COLUMNS):
        near = second[left : left + _COLUMNS]
        for i in range(first.shape[0]):
            for j in range(near.shape[0]):
                common = np.uint64(0)
                for word in range(first.shape[1]):
                    common += ones(first[i, word] & near[j, word])
                out[i, left + j] = common
