"""Rules on what the baseline memorizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.memorization import LOWER_TAIL, UPPER_TAIL
from lightning_memaudit.gates.coherence import COUNTS, MEANS
from lightning_memaudit.gates.judged_report import memorization_at
from lightning_memaudit.gates.policy.selectors import OVERALL
from lightning_memaudit.gates.tables import Question, select
from lightning_memaudit.record import estimates
from lightning_memaudit.record.levels import MEMORIZED, fit_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.scope import Scope
    from lightning_memaudit.gates.rules.base import Direction, Unit
    from lightning_memaudit.gates.tables import Batch, Problem
    from lightning_memaudit.record.estimates import Estimate

__all__ = ["MEAN", "Memorization", "MemorizationPrevalence"]


def _read_counts(rows: Sequence[Mapping[str, Any]], *, threshold: float) -> Estimate:
    counts = estimates.PREVALENCE.of_rows(rows)
    found = counts.found
    for name, counted, asked in (
        ("threshold", found.threshold, threshold),
        ("upper_tail", found.upper_tail, UPPER_TAIL),
        ("lower_tail", found.lower_tail, LOWER_TAIL),
    ):
        if not math.isclose(counted, asked):
            raise ArgumentError(f"{name} is {counted:g} where {asked:g} is counted with; write the report again.")
    return counts


def _not_fitted(row: Mapping[str, Any]) -> str | None:
    n, missed = row.get("n_estimable"), row.get("n_not_fitted")
    if not isinstance(n, int) or not isinstance(missed, int) or n <= 0:
        return "the report does not say how well the group is fitted"
    if fit_status(missed / n) != "not fitted":
        return None
    return (
        f"models get {missed} of its {n} examples wrong although they trained on them: it is not fitted, which is not "
        "the same as not memorized"
    )


MEAN = Question("memorization", estimates.MEAN.name, estimates.MEAN.of_rows, MEANS, _not_fitted)


@dataclass(frozen=True, slots=True)
class Memorization:
    """Mean memorization score of a group's training examples, for these examples and new models.

    Bounds: delete-one jackknife over models, with a floor where all models agree. A group that models do not fit never
    passes.
    """

    name: ClassVar[str] = "memorization"
    direction: ClassVar[Direction] = "at most"
    unit: ClassVar[Unit] = "number"
    margin_means: ClassVar[str] = "the largest mean score allowed, such as 0.1"
    default_treatments: ClassVar[tuple[str, ...]] = ()
    default_groups: ClassVar[tuple[str, ...]] = (OVERALL,)
    compares: ClassVar[bool] = False
    ignores: ClassVar[tuple[str, ...]] = ("treatments",)
    section: ClassVar[str] = "memorization"

    def evidence(self, rule: Scope, subject: Subject, reference: Subject | None) -> Iterator[Batch | Problem]:
        """Mean scores of the groups."""
        return select(rule, subject, MEAN)


@dataclass(frozen=True, slots=True)
class MemorizationPrevalence:
    """Share of a group's training examples with a memorization score of ``threshold`` or more.

    The plain count is biased by the noise of the scores, so it is shown and not judged. Bounds count examples whose
    interval at a far stricter level reaches the threshold, or lies above it, and allow for those counted wrongly by
    Markov's inequality: they hold however the errors of examples hang together, and ask for about 80 models or more.
    A group that models do not fit never passes.
    """

    threshold: float = MEMORIZED

    name: ClassVar[str] = "memorization_prevalence"
    direction: ClassVar[Direction] = "at most"
    unit: ClassVar[Unit] = "share"
    margin_means: ClassVar[str] = "the largest share allowed: 0.1 is one example in ten"
    default_treatments: ClassVar[tuple[str, ...]] = ()
    default_groups: ClassVar[tuple[str, ...]] = (OVERALL,)
    compares: ClassVar[bool] = False
    ignores: ClassVar[tuple[str, ...]] = ("treatments",)
    section: ClassVar[str] = "memorization"

    def __post_init__(self) -> None:
        if (
            isinstance(self.threshold, bool)
            or not isinstance(self.threshold, int | float)
            or not -1 < self.threshold < 1
        ):
            raise ArgumentError(f"threshold = {self.threshold!r}; a number between -1 and 1 is needed, such as 0.25")

    def evidence(self, rule: Scope, subject: Subject, reference: Subject | None) -> Iterator[Batch | Problem]:
        """Counts of the groups."""
        section, read = memorization_at(float(self.threshold)), partial(_read_counts, threshold=self.threshold)
        return select(rule, subject, Question(section, estimates.PREVALENCE.name, read, COUNTS, _not_fitted))
