"""Divisions of a split into groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_memaudit.functional.checks import IntArray
    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.record.record import Record

__all__ = ["LABEL", "Partition", "partitions", "partitions_of", "whole"]

LABEL = "label"


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """A division of a split into groups, those without examples included.

    Attributes:
        codes: Group of each example, int64[n].
        names: Name of each group, by code.
    """

    codes: IntArray
    names: tuple[str, ...]


def partitions(examples: Examples, others: Sequence[Examples]) -> dict[str, Partition | None]:
    """The labels, under the name ``label``, and every grouping, each with the groups that only other splits have.

    Args:
        examples: Those of the split.
        others: Those of the other splits.

    Returns:
        By name; None for a grouping that the split lacks.

    Example:
        >>> from lightning_memaudit.outcomes.examples import Examples
        >>> known = partitions(Examples(2, np.array([0, 2])), [Examples(1, np.array([1]))])
        >>> known["label"].names, known["label"].codes
        (('0', '2', '1'), array([0, 1]))
    """
    divided: dict[str, Partition | None] = {}
    labelled = [part for part in (examples, *others) if part.labels is not None and not (part.labels < 0).all()]
    if labelled and labelled[0] is examples:
        assert examples.labels is not None  # noqa: S101
        values, codes = np.unique(examples.labels, return_inverse=True)
        names = map(str, values)
        rest = np.unique(np.concatenate([part.labels for part in labelled if part.labels is not None]))
        divided[LABEL] = Partition(codes, tuple(dict.fromkeys([*names, *map(str, rest)])))
    for part in (examples, *others):
        for name in part.groups:
            own = examples.groups.get(name)
            if own is None:
                divided.setdefault(name, None)
                continue
            known = [part.groups[name].names for part in (examples, *others) if name in part.groups]
            groups = Partition(own.codes, tuple(dict.fromkeys(group for names in known for group in names)))
            labels = divided.get(LABEL)
            if name != LABEL or labels is None:
                divided[name] = groups
            elif not np.array_equal(labels.codes, groups.codes):
                divided[f"group_{LABEL}"] = groups
    return divided


def partitions_of(record: Record, split: str) -> dict[str, Partition | None]:
    """The partitions of a split of a store."""
    others = [record.examples(other) for other in record.splits if other != split]
    return partitions(record.examples(split), others)


def whole(n_examples: int) -> Partition:
    """All examples as one group."""
    return Partition(np.zeros(n_examples, dtype=np.int64), ("all",))
