"""Rules on what a treatment costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lightning_memaudit.gates.coherence import DROPS, EXCESS
from lightning_memaudit.gates.tables import Question, select
from lightning_memaudit.record import estimates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.scope import Scope
    from lightning_memaudit.gates.rules.base import Direction, Unit
    from lightning_memaudit.gates.tables import Batch, Problem

__all__ = ["DROP", "Drop", "ExcessDrop"]


DROP = Question("impact", estimates.DROP.name, estimates.DROP.of_rows, DROPS)
_EXCESS = Question("impact", estimates.EXCESS.name, estimates.EXCESS.of_rows, EXCESS)


@dataclass(frozen=True, slots=True)
class Drop:
    """Accuracy that a treatment takes from each group: accuracy of the base models minus that of the treated ones.

    Bounds are for new models and new examples of the group (two-way form; Clopper–Pearson on flips where few examples
    differ). With one model an arm they are for these very models.
    """

    name: ClassVar[str] = "drop"
    direction: ClassVar[Direction] = "at most"
    unit: ClassVar[Unit] = "points"
    margin_means: ClassVar[str] = "the largest drop allowed: 0.05 is five points"
    default_treatments: ClassVar[tuple[str, ...]] = ("*",)
    default_groups: ClassVar[tuple[str, ...]] = ("*",)
    compares: ClassVar[bool] = False
    ignores: ClassVar[tuple[str, ...]] = ()
    section: ClassVar[str] = "impact"

    def evidence(self, rule: Scope, subject: Subject, reference: Subject | None) -> Iterator[Batch | Problem]:
        """Drops of the groups."""
        return select(rule, subject, DROP)


@dataclass(frozen=True, slots=True)
class ExcessDrop:
    """Drop of a group minus the drop over all examples: what a treatment takes from it beyond what it takes from all.

    One contrast of all examples, since the group is part of the whole; the models move both at once.
    """

    name: ClassVar[str] = "excess_drop"
    direction: ClassVar[Direction] = "at most"
    unit: ClassVar[Unit] = "points"
    margin_means: ClassVar[str] = "the largest excess allowed: 0.03 is three points more than overall"
    default_treatments: ClassVar[tuple[str, ...]] = ("*",)
    default_groups: ClassVar[tuple[str, ...]] = ("*",)
    compares: ClassVar[bool] = False
    ignores: ClassVar[tuple[str, ...]] = ()
    section: ClassVar[str] = "impact"

    def evidence(self, rule: Scope, subject: Subject, reference: Subject | None) -> Iterator[Batch | Problem]:
        """Excess drops of the groups."""
        return select(rule, subject, _EXCESS)
