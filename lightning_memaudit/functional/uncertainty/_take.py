"""Some entries of an estimate that has one entry a group, and entries of several estimates together."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from lightning_memaudit.functional.checks import IntArray

Found = TypeVar("Found")


def take(found: Found, rows: IntArray) -> Found:
    """The same estimate for some of its groups, in the order asked for.

    Args:
        found: A dataclass whose arrays end in the axis of the groups, itself or in dataclasses that it holds.
        rows: Numbers of the groups, int64.

    Returns:
        A dataclass of the same kind.

    Example:
        >>> from lightning_memaudit.functional.uncertainty import OneSided
        >>> from lightning_memaudit.functional.uncertainty import two_way
        >>> found = OneSided(two_way([np.eye(3), np.ones((3, 3))], (1, -1), np.arange(3), n_groups=3))
        >>> take(found, np.array([2, 0])).n
        array([1., 1.])
    """
    changed: dict[str, Any] = {}
    for field in fields(found):  # type: ignore[arg-type]
        value: Any = getattr(found, field.name)
        if isinstance(value, np.ndarray):
            changed[field.name] = value[..., rows]
        elif is_dataclass(value) and not isinstance(value, type):
            changed[field.name] = take(value, rows)
    return replace(found, **changed)  # type: ignore[type-var]


def joined(parts: Sequence[Found]) -> Found:
    """Estimates of one ``form_of``, one after the other.

    Args:
        parts: One or more.

    Returns:
        A dataclass of the same kind.

    Example:
        >>> from lightning_memaudit.functional.uncertainty import OneSided
        >>> from lightning_memaudit.functional.uncertainty import two_way
        >>> found = OneSided(two_way([np.eye(3), np.ones((3, 3))], (1, -1), np.arange(3), n_groups=3))
        >>> joined([found, found]).n
        array([1., 1., 1., 1., 1., 1.])
    """
    if len(parts) == 1:
        return parts[0]
    changed: dict[str, Any] = {}
    for field in fields(parts[0]):  # type: ignore[arg-type]
        values: list[Any] = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], np.ndarray):
            changed[field.name] = np.concatenate(values, axis=-1)
        elif is_dataclass(values[0]) and not isinstance(values[0], type):
            changed[field.name] = joined(values)
    return replace(parts[0], **changed)  # type: ignore[type-var]


def form_of(found: Any) -> Hashable:
    """What two estimates must share to be joined: their kinds, options, and axes but for that of the groups.

    Args:
        found: As for ``take``.
    """
    parts: list[Any] = [type(found)]
    for field in fields(found):
        value: Any = getattr(found, field.name)
        if isinstance(value, np.ndarray):
            parts.append(value.shape[:-1])
        else:
            parts.append(form_of(value) if is_dataclass(value) and not isinstance(value, type) else value)
    return tuple(parts)
