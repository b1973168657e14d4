"""Both ways to count in how many models two things are true."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lightning_memaudit.functional.influence import _joint_counts

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def counting(*, bits: bool) -> Iterator[None]:
    """Count bits, as a process does that has started numba, or multiply matrices, as one does without numba."""
    _joint_counts._kernel.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        if not bits:
            patch.setitem(sys.modules, "lightning_memaudit.functional.influence._popcount", None)
        assert (_joint_counts._kernel() is not None) is bits
        assert _joint_counts.popcount_pays(1, 1) is bits
        yield
    _joint_counts._kernel.cache_clear()
