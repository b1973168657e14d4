"""Accuracy of one arm in two stores, example by example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.functional.impact import accuracy_drop
from lightning_memaudit.functional.uncertainty import take
from lightning_memaudit.gates.policy.selectors import OVERALL, group_name
from lightning_memaudit.gates.tables import Table
from lightning_memaudit.record.estimates import DROP
from lightning_memaudit.record.pairs import choose_split
from lightning_memaudit.record.partitions import Partition, partitions_of, whole

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from lightning_memaudit.record import Record

__all__ = ["paired_tables"]


def paired_tables(new: Record, old: Record, arm: str) -> dict[str, Table | str]:
    """Accuracy lost from ``old`` to ``new`` by grouping, both on the same examples in the same order.

    With one plan, models of the same number share subset and seed and are paired; else the arms are independent.
    """
    split, _ = choose_split(new.splits)
    is_paired = new.plan.digest == old.plan.digest
    ids = [record.model_ids(arm) for record in (new, old)]
    shared = sorted(set(ids[0]) & set(ids[1]))
    if is_paired and shared:
        ids = [shared, shared]
    later, earlier = (_correct(record, arm, split, own) for record, own in zip((new, old), ids, strict=True))
    divided: dict[str, Partition | None] = {
        OVERALL: whole(later.shape[1]),
        **partitions_of(new, split),
    }
    return {
        name: f"split {split!r} has no grouping {name!r}"
        if part is None
        else _table(name, part, earlier, later, paired=is_paired and bool(shared))
        for name, part in divided.items()
    }


def _correct(record: Record, name: str, split: str, ids: list[int]) -> npt.NDArray[Any]:
    arm = record.arm(name)
    rows = arm.rows(ids)
    correct = arm.correct(split, rows)
    return np.where(arm.mask(rows), np.nan, correct) if split == "train" else correct


def _table(name: str, part: Partition, earlier: npt.NDArray[Any], later: npt.NDArray[Any], *, paired: bool) -> Table:
    drop = accuracy_drop(earlier, later, part.codes, paired=paired, n_groups=len(part.names))
    sound = np.flatnonzero(drop.n > 0)
    place = np.full(len(part.names), -1, dtype=np.int64)
    place[sound] = np.arange(len(sound))
    return Table(
        names=tuple(group_name(name, group) for group in part.names),
        n=tuple(drop.n.tolist()),
        n_models=min(drop.n_models),
        problems=tuple(
            None if n else "the group has no examples; if that is right, name it in exclude" for n in drop.n.tolist()
        ),
        doubts=(None,) * len(part.names),
        evidence=DROP.of(take(drop.two_way, sound)) if len(sound) else None,
        place=place,
    )
