"""Accuracy of one arm in two stores, example by example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.functional.impact import accuracy_drop
from lightning_memaudit.functional.uncertainty import OneSided, take
from lightning_memaudit.gates.evidence import Estimate, by_sizes
from lightning_memaudit.gates.policy.selectors import OVERALL, group_name
from lightning_memaudit.gates.tables import Table
from lightning_memaudit.sections.impact.arms import choose_split
from lightning_memaudit.sections.impact.groups import Partition, partitions

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from lightning_memaudit.outcomes.store import OutcomeStore

__all__ = ["paired_tables"]


def paired_tables(new: OutcomeStore, old: OutcomeStore, arm: str) -> dict[str, Table | str]:
    """Accuracy lost from ``old`` to ``new`` by grouping, both on the same examples in the same order.

    With one plan, models of the same number share subset and seed and are paired; else the arms are independent.
    """
    split, _ = choose_split(new.splits())
    is_paired = new.plan.digest == old.plan.digest
    ids = [store.model_ids(arm) for store in (new, old)]
    shared = sorted(set(ids[0]) & set(ids[1]))
    if is_paired and shared:
        ids = [shared, shared]
    later, earlier = (_correct(store, arm, split, own) for store, own in zip((new, old), ids, strict=True))
    divided: dict[str, Partition | None] = {
        OVERALL: Partition(np.zeros(later.shape[1], dtype=np.int64), ("all",)),
        **partitions(new.examples(split), [new.examples(other) for other in new.splits() if other != split]),
    }
    return {
        name: f"split {split!r} has no grouping {name!r}"
        if part is None
        else _table(name, part, earlier, later, paired=is_paired and bool(shared))
        for name, part in divided.items()
    }


def _correct(store: OutcomeStore, arm: str, split: str, ids: list[int]) -> npt.NDArray[Any]:
    outcomes = store.load(arm, split, model_ids=ids, fields=())
    return np.where(outcomes.mask, np.nan, outcomes.correct) if split == "train" else outcomes.correct


def _table(name: str, part: Partition, earlier: npt.NDArray[Any], later: npt.NDArray[Any], *, paired: bool) -> Table:
    drop = accuracy_drop(earlier, later, part.codes, paired=paired, n_groups=len(part.names))
    sound = np.flatnonzero(drop.n > 0)
    place = np.full(len(part.names), -1, dtype=np.int64)
    place[sound] = np.arange(len(sound))
    found = OneSided(take(drop.two_way, sound))
    return Table(
        names=tuple(group_name(name, group) for group in part.names),
        n=tuple(drop.n.tolist()),
        n_models=min(drop.n_models),
        problems=tuple(
            None if n else "the group has no examples; if that is right, name it in exclude" for n in drop.n.tolist()
        ),
        doubts=(None,) * len(part.names),
        evidence=Estimate(found, (-1.0, 1.0), by_sizes, covers_models=found.covers_models) if len(sound) else None,
        place=place,
    )
