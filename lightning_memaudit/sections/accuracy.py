"""How accurate every arm is, by group, the baseline included: what floors of accuracy are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.impact import error_rate
from lightning_memaudit.functional.uncertainty import excess_record, two_way_record
from lightning_memaudit.outcomes.arms import FULL, REBUILT
from lightning_memaudit.sections.entries import found, plain, unavailable
from lightning_memaudit.sections.impact.arms import choose_split
from lightning_memaudit.sections.impact.groups import LEVEL, Partition, partitions
from lightning_memaudit.sections.render import section_html
from lightning_memaudit.sections.section import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from lightning_memaudit.outcomes.store import OutcomeStore

__all__ = ["SECTION", "AccuracyResult", "accuracy_section"]


@dataclass(frozen=True, slots=True, eq=False)
class AccuracyResult:
    """Accuracy of every arm by group.

    Attributes:
        summary: JSON-ready: NaN is None.
    """

    summary: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready summary."""
        return self.summary

    def _repr_html_(self) -> str:
        return section_html("accuracy", self.summary)


def accuracy_section(store: OutcomeStore) -> AccuracyResult:
    """Compute the section from a store.

    Raises:
        MissingDataError: The store has no model.
    """
    names = [name for name in store.treatments() if name.removeprefix(FULL) != REBUILT]
    if not names:
        raise MissingDataError(f"store={store.url!r} holds no model yet; run the audit first")
    split, kind = choose_split(store.splits())
    divided = partitions(store.examples(split), [store.examples(other) for other in store.splits() if other != split])
    arms = {name: _describe(store, name, split, divided) for name in names}
    return AccuracyResult(
        plain({"level": LEVEL, "split": {"name": split, "kind": kind}, "groupings": list(divided), "arms": arms})
    )


def _describe(store: OutcomeStore, name: str, split: str, divided: Mapping[str, Partition | None]) -> dict[str, Any]:
    ids = store.model_ids(name)
    if not ids:
        return unavailable(f"arm {name!r} has no readable model; run the audit again")
    outcomes = store.load(name, split, model_ids=ids, fields=())
    correct: npt.NDArray[Any] = outcomes.correct
    if split == "train":
        if outcomes.mask.all():
            return unavailable(
                f"the models of arm {name!r} trained on every example of split 'train', and the store has no other "
                "split to judge them on; audit with a test or validation split"
            )
        correct = np.where(outcomes.mask, np.nan, correct)
    whole = Partition(np.zeros(correct.shape[1], dtype=np.int64), ("all",))
    return found(
        n_models=len(ids),
        overall=_rows(correct, whole)[0],
        by_group={
            grouping: unavailable(f"split {split!r} has no grouping {grouping!r}; pass its values too")
            if part is None
            else found(rows=_rows(correct, part))
            for grouping, part in divided.items()
        },
    )


def _rows(correct: npt.NDArray[Any], partition: Partition) -> list[dict[str, Any]]:
    rates = error_rate(correct, partition.codes, n_groups=len(partition.names))
    low, high = rates.error.interval(LEVEL)
    gap_low, gap_high = rates.gap.interval(LEVEL)
    columns = {
        "n": rates.error.n,
        "n_missing": rates.n_missing,
        "accuracy": 1 - rates.error.estimate,
        "low": np.maximum(1 - high, 0.0),
        "high": np.minimum(1 - low, 1.0),
        "gap": rates.gap.estimate,
        "gap_low": gap_low,
        "gap_high": gap_high,
    }
    return [
        {
            "group": group,
            **{key: (int if key.startswith("n") else float)(values[g]) for key, values in columns.items()},
            "statistics": {"error": two_way_record(rates.error, g), "gap": excess_record(rates.gap, g)},
        }
        for g, group in enumerate(partition.names)
    ]


SECTION = Section(name="accuracy", order=25, compute=accuracy_section)
