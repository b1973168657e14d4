"""Whether two things of the same make hold the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lightning_memaudit.compat.torch import flatten

__all__ = ["equal"]


def equal(first: Any, second: Any, *, levels: int = 4) -> bool:
    """Whether two samples, batches or attributes are equal, NaN where the other has NaN.

    Args:
        first: Tensors, arrays, plain values and objects, in nested containers.
        second: The other one.
        levels: How deep objects without an ``==`` of their own are looked into; deeper ones are not the same.
    """
    leaves, spec = flatten(first)
    others, other_spec = flatten(second)
    return bool(spec == other_spec) and all(_equal_leaf(a, b, levels) for a, b in zip(leaves, others, strict=True))


def _equal_leaf(a: Any, b: Any, levels: int) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if hasattr(a, "tobytes"):  # numbers of numpy, images of Pillow
        return bool(a.tobytes() == b.tobytes())
    answer = a == b
    if answer is True or (isinstance(a, float) and a != a and b != b):
        return True
    return levels > 0 and bool(getattr(a, "__dict__", None)) and equal(vars(a), vars(b), levels=levels - 1)
