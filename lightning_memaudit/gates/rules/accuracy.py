"""Rules on how accurate an arm is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lightning_memaudit.gates.coherence import ERRORS, GAPS
from lightning_memaudit.gates.tables import Question, select
from lightning_memaudit.record import estimates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.scope import Scope
    from lightning_memaudit.gates.rules.base import Direction, Unit
    from lightning_memaudit.gates.tables import Batch, Problem

__all__ = ["ERROR", "Accuracy", "Gap"]


ERROR = Question("accuracy", estimates.ERROR.name, estimates.ERROR.of_rows, ERRORS)
_GAP = Question("accuracy", estimates.GAP.name, estimates.GAP.of_rows, GAPS)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy of each group: no group, hence not the worst one, may fall below the margin.

    Bounds are for new models and new examples of the group (Clopper–Pearson where few examples are wrong). Every group
    is judged for itself, so that no group need be picked as the worst from the data.
    """

    name: ClassVar[str] = "accuracy"
    direction: ClassVar[Direction] = "at least"
    unit: ClassVar[Unit] = "share"
    margin_means: ClassVar[str] = "the lowest accuracy allowed, such as 0.8"
    default_treatments: ClassVar[tuple[str, ...]] = ("*",)
    default_groups: ClassVar[tuple[str, ...]] = ("*",)
    compares: ClassVar[bool] = False
    ignores: ClassVar[tuple[str, ...]] = ()
    section: ClassVar[str] = "accuracy"

    def evidence(self, rule: Scope, subject: Subject, reference: Subject | None) -> Iterator[Batch | Problem]:
        """Error rates of the groups."""
        return select(rule, subject, ERROR)


@dataclass(frozen=True, slots=True)
class Gap:
    """Accuracy over all examples minus accuracy of a group (Fairlearn's ``to_overall``, one-sided).

    The difference between the best and the worst group is not judged: picked from the data it is never 0, and its
    interval cannot reach 0.
    """

    name: ClassVar[str] = "gap"
    direction: ClassVar[Direction] = "at most"
    unit: ClassVar[Unit] = "points"
    margin_means: ClassVar[str] = "the farthest that a group may fall behind the whole: 0.1 is ten points"
    default_treatments: ClassVar[tuple[str, ...]] = ("*",)
    default_groups: ClassVar[tuple[str, ...]] = ("*",)
    compares: ClassVar[bool] = False
    ignores: ClassVar[tuple[str, ...]] = ()
    section: ClassVar[str] = "accuracy"

    def evidence(self, rule: Scope, subject: Subject, reference: Subject | None) -> Iterator[Batch | Problem]:
        """Gaps of the groups."""
        return select(rule, subject, _GAP)
