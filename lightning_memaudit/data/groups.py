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
    from collections.abc import Sequence

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


def grouping(values: Any, *, name: str, n_examples: int) -> Grouping:
    """Number the distinct values; missing ones (None, NaN, empty text) are a group of their own, named ``(missing)``.

    Args:
        values: One value per example: an array, tensor, list or column.
        name: What the grouping is called, for messages.
        n_examples: How many examples there are.

    Raises:
        ArgumentError: There is not one value per example.

    Example:
        >>> grouping(["b", "a", None, "b"], name="race", n_examples=4).names
        ('a', 'b', '(missing)')
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    items = list(values.tolist() if isinstance(values, np.ndarray) else values)
    if len(items) != n_examples or any(isinstance(item, list | tuple | dict) for item in items):
        raise ArgumentError(
            f"groups[{name!r}] has {len(items)} entries: one value for each of the {n_examples} examples"
        )
    plain = [_plain(item) for item in items]
    present = sorted({item for item in plain if item is not None}, key=_sort_key)
    code = {item: i for i, item in enumerate(present)}
    names = tuple(str(item) for item in present)
    if None in plain:
        code[None] = len(present)
        names += (MISSING,)
    return Grouping(np.array([code[item] for item in plain], dtype=np.int64), names)


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
        return None if inner is None else [_item(inner, i) for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        parts = [column_of(part, name) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [value for part in parts for value in part]
    return None


def _own_column(dataset: Any, name: str) -> Any:
    value: Any = getattr(dataset, name, None)
    if value is None and name in (getattr(dataset, "column_names", None) or ()):
        value = dataset[name]
    for frame in ("df", "frame", "data"):
        table: Any = getattr(dataset, frame, None)
        if value is None and hasattr(table, "columns") and name in table.columns:
            value = table[name]
    is_column = hasattr(value, "__len__") and not isinstance(value, str | bytes | Mapping) and not callable(value)
    return value if is_column and len(value) == len(dataset) else None


def _item(column: Sequence[Any] | Any, i: int) -> Any:
    return column.iloc[i] if hasattr(column, "iloc") else column[i]


def _plain(item: Any) -> Any:
    if isinstance(item, torch.Tensor | np.generic):
        item = item.item()
    if item is None or item == "" or type(item).__name__ == "NAType":
        return None
    if isinstance(item, float):
        if item != item:
            return None
        return int(item) if item.is_integer() else item
    return item if isinstance(item, bool | int | str) else str(item)


def _sort_key(item: Any) -> tuple[bool, Any]:
    return (True, item) if isinstance(item, str) else (False, item)
