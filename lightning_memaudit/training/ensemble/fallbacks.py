"""Operators that run one model after the other inside ``vmap``."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fallbacks_allowed"]


@contextmanager
def fallbacks_allowed() -> Iterator[None]:
    """No warning of operators without a batching rule: whether they are too slow is measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop because")
        yield
