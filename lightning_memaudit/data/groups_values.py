"""Where the values of a grouping are found, and how they are numbered: one list of names over all splits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset

from lightning_memaudit.functional.checks import argument_error

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LABEL", "MISSING", "Columns", "Grouping", "column_of", "grouping", "groupings"]

LABEL, MISSING = "label", "(missing)"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Grouping:
    """One way to divide a split into groups.

    Attributes:
        codes: int64[n], the group of each example.
        names: The name of each group, by code; of all splits, so that a group may have no example in this one.
        made_by: How the groups were found, JSON-ready, where they are no values of the data.
    """

    codes: npt.NDArray[np.int64]
    names: tuple[str, ...]
    made_by: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Grouping(codes={self.codes!r}, names={self.names!r})"


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Everything in a split that has one value per example.

    Attributes:
        dataset: Its attributes and columns.
        n_examples: How many examples there are.
        labels: int64[n], or None where no label was found.
        keys: The keys of mapping samples that were asked for.
    """

    dataset: Any
    n_examples: int
    labels: npt.NDArray[np.int64] | None
    keys: Mapping[str, Any]

    def find(self, key: str) -> Any:
        """``"label"``, else a key of the samples, else an attribute or column of the data set; None for none."""
        if key == LABEL:
            return self.labels
        return self.keys[key] if key in self.keys else column_of(self.dataset, key)


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
    items = _items(values, name=name, n_examples=n_examples, split=split)
    return Grouping(*_numbered(items))


def groupings(values: Mapping[str, Any], *, name: str, n_examples: Mapping[str, int]) -> dict[str, Grouping]:
    """Number the values of all splits together, so that one name has one code in every split.

    Args:
        values: By split, as for ``grouping``.
        name: What the grouping is called, for messages.
        n_examples: How many examples each split has.

    Raises:
        ArgumentError: There is not one value per example.

    Example:
        >>> groupings({"train": ["b", "c"], "test": ["a"]}, name="race", n_examples={"train": 2, "test": 1})["test"]
        Grouping(codes=array([0]), names=('a', 'b', 'c'))
    """
    items = {split: _items(own, name=name, n_examples=n_examples[split], split=split) for split, own in values.items()}
    codes, names = _numbered(list(itertools.chain.from_iterable(items.values())))
    ends = np.cumsum([len(own) for own in items.values()])
    return {split: Grouping(part, names) for split, part in zip(items, np.split(codes, ends[:-1]), strict=True)}


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


def length_of(dataset: Any, name: str) -> int | None:
    """How many values an attribute has that is no column for having too many or too few of them.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> data = TensorDataset(torch.zeros(3, 1)); data.race = ["x", "y"]
        >>> length_of(data, "race")
        2
    """
    value = getattr(dataset, name, None)
    if value is None or not _is_table(value):
        return None
    return len(value)


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
    return _is_table(value) and len(value) == n_examples


def _is_table(value: Any) -> bool:
    if isinstance(value, str | bytes | Mapping | set) or callable(value) or not hasattr(value, "__len__"):
        return False
    return bool(getattr(value, "ndim", 1) > 0)


def _items(values: Any, *, name: str, n_examples: int, split: str | None) -> list[Any]:
    """The values as plain numbers and texts, None where missing."""
    if isinstance(values, torch.Tensor | np.ndarray):
        values = values.tolist()
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise argument_error(f"groups[{name!r}]", values, f"one value for each of the {n_examples} examples is needed")
    items = list(values)
    where = "the data set" if split is None else f"split {split!r}"
    if len(items) != n_examples:
        raise argument_error(
            f"groups[{name!r}]",
            values,
            f"one value for each of the {n_examples} examples of {where} is needed, and there are {len(items)}; give "
            f"every split its own: {{{split or 'train'!r}: [...], ...}}",
        )
    for row, item in enumerate(items):
        if isinstance(item, Mapping | list | tuple | set | frozenset) or getattr(item, "ndim", 0) != 0:
            raise argument_error(
                f"groups[{name!r}][{row}]", item, f"one number or text for each example of {where} is needed"
            )
    return [_plain(item) for item in items]


def _numbered(plain: list[Any]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    kinds = sorted({_kind(item) for item in plain if item is not None})
    code = {kind: i for i, kind in enumerate(kinds)}
    names = [str(value) for *_, value in kinds]
    missing = None in plain
    if len({*names, MISSING} if missing else set(names)) < len(names) + missing:
        names = [repr(value) if isinstance(value, str) else str(value) for *_, value in kinds]
    codes = [len(kinds) if item is None else code[_kind(item)] for item in plain]
    return np.array(codes, dtype=np.int64), (*names, MISSING) if missing else tuple(names)


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
