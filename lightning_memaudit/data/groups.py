"""Groups of examples: from labels, from a column or attribute of the data set, from keys of samples, from arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset

from lightning_memaudit.exceptions import ArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MISSING", "Grouping", "column_of", "grouping"]

MISSING = "(missing)"


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """One way to divide a split into groups.

    Attributes:
        codes: int64[n], the group of each example.
        names: The name of each group, by code.
    """

    codes: npt.NDArray[np.int64]
    names: tuple[str, ...]


def grouping(values: Any, *, name: str, n_examples: int, split: str | None = None) -> Grouping:
    """Number the distinct values; missing ones (None, NaN, empty text) are a group of their own, named ``(missing)``.

    Whole floats are integers (1.0 is 1), as columns with missing values make them; True, 1 and "1" are three values.
    Names are distinct: where a text would be shown as another value is, all texts are shown in quotes.

    Args:
        values: One value per example: an array, tensor, list or column.
        name: What the grouping is called, for messages.
        n_examples: How many examples there are.
        split: The split that they belong to, for messages.

    Raises:
        ArgumentError: There is not one value per example.

    Example:
        >>> grouping(["b", "a", None, "b"], name="race", n_examples=4).names
        ('a', 'b', '(missing)')
    """
    if isinstance(values, torch.Tensor | np.ndarray):
        values = values.tolist()
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise ArgumentError(f"groups[{name!r}]: one value for each of the {n_examples} examples, not {values!r:.80}")
    items = list(values)
    where = "the data set" if split is None else f"split {split!r}"
    if len(items) != n_examples:
        raise ArgumentError(
            f"groups[{name!r}] has {len(items)} entries, and {where} has {n_examples} examples: give one value for "
            f"each example, and every split its own: {{{split or 'train'!r}: [...], ...}}"
        )
    for row, item in enumerate(items):
        if isinstance(item, Mapping | list | tuple | set | frozenset) or getattr(item, "ndim", 0) != 0:
            raise ArgumentError(f"groups[{name!r}]: row {row} has several values, {item!r:.80}; one each is needed")
    plain = [_plain(item) for item in items]
    kinds = sorted({_kind(item) for item in plain if item is not None})
    code = {kind: i for i, kind in enumerate(kinds)}
    names = [str(value) for *_, value in kinds]
    missing = None in plain
    if len({*names, MISSING} if missing else set(names)) < len(names) + missing:
        names = [repr(value) if isinstance(value, str) else str(value) for *_, value in kinds]
    codes = [len(kinds) if item is None else code[_kind(item)] for item in plain]
    return Grouping(np.array(codes, dtype=np.int64), (*names, MISSING) if missing else tuple(names))


def column_of(dataset: Any, name: str) -> Any:
    """One value per example, from an attribute or column of a data set, or None when it has none of that name.

    ``Subset`` and ``ConcatDataset`` (and so ``random_split``) are looked through.

    Example:
        >>> from torch.utils.data import Subset, TensorDataset
        >>> data = TensorDataset(torch.zeros(3, 1)); data.race = ["x", "y", "z"]
        >>> column_of(Subset(data, [2, 0]), "race")
        ['z', 'x']
    """
    own = _own_column(dataset, name)
    if own is not None:
        return own
    if isinstance(dataset, Subset):
        inner = column_of(dataset.dataset, name)
        if inner is None:
            return None
        values = inner.tolist() if hasattr(inner, "tolist") else inner
        return [values[int(i)] for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        parts = [column_of(part, name) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [value for part in parts for value in part]
    return None


def _own_column(dataset: Any, name: str) -> Any:
    candidates = [getattr(dataset, name, None)]
    if name in (getattr(dataset, "column_names", None) or ()):
        candidates.append(dataset[name])
    for frame in ("df", "frame", "data"):
        table: Any = getattr(dataset, frame, None)
        if hasattr(table, "columns") and name in table.columns:
            candidates.append(table[name])
    return next((value for value in candidates if _is_column(value, len(dataset))), None)


def _is_column(value: Any, n_examples: int) -> bool:
    if isinstance(value, str | bytes | Mapping | set) or callable(value) or not hasattr(value, "__len__"):
        return False
    return getattr(value, "ndim", 1) > 0 and len(value) == n_examples


def _plain(item: Any) -> Any:
    if isinstance(item, torch.Tensor | np.generic):
        item = item.item()
    if item is None or type(item).__name__ == "NAType" or item == "" or item != item:
        return None
    if isinstance(item, float):
        return int(item) if item.is_integer() else item
    return item if isinstance(item, bool | int | str) else str(item)


def _kind(item: Any) -> tuple[bool, bool, Any]:
    """What tells values apart (True == 1), in the order of groups: truth values, numbers, texts."""
    return isinstance(item, str), not isinstance(item, bool), item
