"""Checks that the toy problems share."""

from __future__ import annotations

import numpy as np

from lightning_memaudit.functional.checks import Array, IntArray, argument_error, as_array

__all__ = ["check_n_classes", "int_vector"]


def int_vector(value: Array, name: str, *, limit: int, length: int | None = None) -> IntArray:
    """A copy as int64[length].

    Raises:
        ArgumentError: Not a vector of integers in [0, limit), or of another length, or empty.
    """
    array = as_array(value, name=name, ndim=1, dtype=None)
    if array.dtype.kind not in "iu" or not len(array) or array.min() < 0 or array.max() >= limit:
        raise argument_error(name, array, f"integers in [0, {limit}) are needed, at least one")
    if length is not None and len(array) != length:
        raise argument_error(name, array, f"length {length} is needed")
    return array.astype(np.int64)


def check_n_classes(n_classes: object) -> None:
    """Check a number of classes.

    Raises:
        ArgumentError: Not an integer of at least 2.
    """
    if isinstance(n_classes, bool) or not isinstance(n_classes, int | np.integer) or n_classes < 2:
        raise argument_error("n_classes", n_classes, "an integer of at least 2 is needed")
