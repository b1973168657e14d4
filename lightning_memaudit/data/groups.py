"""What ``groups=`` takes: labels, columns, keys of samples, arrays, and groupings made of others.

A grouping has one list of names over all splits. A group that a split lacks has no example there, and is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_memaudit.data.groups_clusters import Clusters, by_cluster
from lightning_memaudit.data.groups_derived import TRAIN, DerivedGrouping, Frequency, Intersection, by_memorization
from lightning_memaudit.data.groups_values import (
    LABEL,
    MISSING,
    Columns,
    Grouping,
    column_of,
    grouping,
    groupings,
    length_of,
)
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import argument_error

__all__ = [
    "LABEL",
    "MISSING",
    "Clusters",
    "Columns",
    "DerivedGrouping",
    "Frequency",
    "Grouping",
    "Groups",
    "Intersection",
    "by_cluster",
    "by_memorization",
    "column_of",
    "grouping",
    "resolve",
    "sample_keys",
]

Groups = Mapping[str, Any]


def sample_keys(groups: Groups) -> set[str]:
    """The keys that samples are searched for."""
    keys: set[str] = set()
    for value in groups.values():
        waiting = [value]
        while waiting:
            part = waiting.pop()
            if isinstance(part, str):
                keys.add(part)
            elif _is_derived(part):
                waiting += part.parts
    return keys - {LABEL}


def resolve(groups: Groups, splits: Mapping[str, Columns]) -> dict[str, dict[str, Grouping]]:
    """The groupings of all splits, with one list of names each.

    Args:
        groups: By name: ``"label"``, a key of mapping samples, an attribute or column of the data set, a mapping from
            split to array, a ``Grouping`` of the training split, or a ``DerivedGrouping`` such as ``Intersection``.
        splits: What each split has.

    Returns:
        By name, then by split; a grouping of the training split alone is in no other.

    Raises:
        ArgumentError: A grouping cannot be found, or has not one value per example.

    Example:
        >>> import numpy as np
        >>> data = {"train": Columns(None, 2, np.array([0, 1]), {}), "test": Columns(None, 1, np.array([1]), {})}
        >>> resolve({"digit": "label"}, data)["digit"]["test"]
        Grouping(codes=array([1]), names=('0', '1'))
    """
    return {name: _resolved(value, (name,), groups, splits) for name, value in groups.items()}


def _resolved(value: Any, path: tuple[str, ...], groups: Groups, splits: Mapping[str, Columns]) -> dict[str, Grouping]:
    """One grouping by split; ``path`` holds the names of the groupings that it is part of, and its own."""
    name = path[0]
    if isinstance(value, Grouping):
        return _of_training(value, name, splits)
    if _is_derived(value):
        parts = []
        for part in value.parts:
            named = isinstance(part, str) and part != LABEL and part in groups and part not in path
            parts.append(_resolved(groups[part] if named else part, (*path, part) if named else path, groups, splits))
        return value.derive(name, parts)  # type: ignore[no-any-return]
    values = {split: _values(value, name, split, columns, groups) for split, columns in splits.items()}
    return groupings(values, name=name, n_examples={split: columns.n_examples for split, columns in splits.items()})


def _of_training(value: Grouping, name: str, splits: Mapping[str, Columns]) -> dict[str, Grouping]:
    if TRAIN not in splits:
        return {}
    n_examples = splits[TRAIN].n_examples
    if len(value.codes) != n_examples:
        raise argument_error(
            f"groups[{name!r}]",
            value.codes,
            f"one code for each of the {n_examples} examples of split 'train', in their order, is needed",
        )
    return {TRAIN: value}


def _values(value: Any, name: str, split: str, columns: Columns, groups: Groups) -> Any:
    if isinstance(value, Mapping):
        if split not in value:
            raise argument_error(
                f"groups[{name!r}]", dict(value), f"values for split {split!r} are needed, and there are none"
            )
        return value[split]
    if not isinstance(value, str):
        return value
    values = columns.find(value)
    if values is not None:
        return values
    part = "" if groups.get(name) == value else f" (in {groups[name]!r:.80})"
    if value == LABEL:
        raise ArgumentError(
            f"groups[{name!r}]='label'{part}: no labels were found in split {split!r}; name a column, or pass an array "
            "per split: {'train': [...], ...}"
        )
    length = length_of(columns.dataset, value)
    if length is not None:
        raise ArgumentError(
            f"groups[{name!r}]={value!r}{part}: that attribute of the data set of split {split!r} has {length} values "
            f"for {columns.n_examples} examples; give it one an example, or pass an array per split: "
            "{'train': [...], ...}"
        )
    raise ArgumentError(
        f"groups[{name!r}]={value!r}{part}: split {split!r} has no such key in its samples and no such attribute or "
        f"column in its data set ({type(columns.dataset).__name__}); pass an array per split: {{'train': [...], ...}}"
    )


def _is_derived(value: Any) -> bool:
    return isinstance(value, DerivedGrouping) and not isinstance(value, type)
