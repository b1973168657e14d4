"""How accurate every arm is, by group, the baseline included: what floors of accuracy are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.impact import error_rate
from lightning_memaudit.outcomes.arms import FULL, REBUILT
from lightning_memaudit.record.estimates import ERROR, GAP
from lightning_memaudit.record.levels import LEVEL
from lightning_memaudit.record.pairs import choose_split
from lightning_memaudit.record.partitions import Partition, partitions_of, whole
from lightning_memaudit.sections.entries import available, plain, unavailable
from lightning_memaudit.sections.render import section_html
from lightning_memaudit.sections.section import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from lightning_memaudit.record import Record

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


def accuracy_section(record: Record) -> AccuracyResult:
    """Compute the section from a record.

    Raises:
        MissingDataError: The store has no model.
    """
    names = [name for name in record.arms if name.removeprefix(FULL) != REBUILT]
    if not names:
        raise MissingDataError(f"store={record.url!r} holds no model yet; run the audit first")
    split, kind = choose_split(record.splits)
    divided = partitions_of(record, split)
    arms = {name: _describe(record, name, split, divided) for name in names}
    return AccuracyResult(
        plain({"level": LEVEL, "split": {"name": split, "kind": kind}, "groupings": list(divided), "arms": arms})
    )


def _describe(record: Record, name: str, split: str, divided: Mapping[str, Partition | None]) -> dict[str, Any]:
    arm = record.arm(name)
    if not arm.n_models:
        return unavailable(f"arm {name!r} has no readable model; run the audit again")
    correct: npt.NDArray[Any] = arm.correct(split)
    if split == "train":
        mask = arm.mask()
        if mask.all():
            return unavailable(
                f"the models of arm {name!r} trained on every example of split 'train', and the store has no other "
                "split to judge them on; audit with a test or validation split"
            )
        correct = np.where(mask, np.nan, correct)
    return available(
        n_models=arm.n_models,
        overall=_rows(correct, whole(correct.shape[1]))[0],
        by_group={
            grouping: unavailable(f"split {split!r} has no grouping {grouping!r}; pass its values too")
            if part is None
            else available(rows=_rows(correct, part))
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
            "statistics": {"error": ERROR.to_row(rates.error, g), "gap": GAP.to_row(rates.gap, g)},
        }
        for g, group in enumerate(partition.names)
    ]


SECTION = Section(name="accuracy", order=25, compute=accuracy_section)
