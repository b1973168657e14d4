"""Some entries of an estimate that has one entry a group."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import IntArray

Found = TypeVar("Found")


def entries_at(found: Found, rows: IntArray) -> Found:
    """The same estimate for some of its groups, in the order asked for.

    Args:
        found: A dataclass whose arrays end in the axis of the groups, itself or in dataclasses that it holds.
        rows: Numbers of the groups, int64.

    Returns:
        A dataclass of the same kind.

    Example:
        >>> from lightning_memaudit.functional.one_sided import OneSided
        >>> from lightning_memaudit.functional.two_way import two_way
        >>> found = OneSided(two_way([np.eye(3), np.ones((3, 3))], (1, -1), np.arange(3), 3))
        >>> entries_at(found, np.array([2, 0])).n
        array([1., 1.])
    """
    changed: dict[str, Any] = {}
    for field in fields(found):  # type: ignore[arg-type]
        value: Any = getattr(found, field.name)
        if isinstance(value, np.ndarray):
            changed[field.name] = value[..., rows]
        elif is_dataclass(value) and not isinstance(value, type):
            changed[field.name] = entries_at(value, rows)
    return replace(found, **changed)  # type: ignore[type-var]
