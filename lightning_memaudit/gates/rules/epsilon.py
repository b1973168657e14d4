"""A rule on the privacy budget that was spent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.accounting import NoisySteps, epsilon_spent
from lightning_memaudit.gates.coherence import NOTHING_PRINTED
from lightning_memaudit.gates.evidence import Known
from lightning_memaudit.gates.tables import Batch, Problem, Question, arms_of, choose_arms, mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.scope import Scope
    from lightning_memaudit.gates.rules.base import Direction, Unit

__all__ = ["Epsilon"]

_ARMS = Question("impact", "", lambda records: Known(np.empty(len(records))), NOTHING_PRINTED)
_TOLERANCE = 0.01  # accountants of other versions differ by less


@dataclass(frozen=True, slots=True)
class Epsilon:
    """ε that DP-SGD spent on one model, from the record of its arm; every arm trained with DP-SGD where none is named.

    An ε means something at its δ only. With ``delta`` the ε at that δ is judged: the recorded one where its δ is no
    larger, else the one that noise, sample rate and steps on record come to. A δ of 1 / n or more promises nothing
    about single examples and is an error. Nothing is sampled, so nothing is inconclusive.
    """

    delta: float | None = None

    name: ClassVar[str] = "epsilon"
    direction: ClassVar[Direction] = "at most"
    unit: ClassVar[Unit] = "number"
    margin_means: ClassVar[str] = "the largest ε allowed, such as 8.0"
    default_treatments: ClassVar[tuple[str, ...]] = ()
    default_groups: ClassVar[tuple[str, ...]] = ()
    compares: ClassVar[bool] = False
    ignores: ClassVar[tuple[str, ...]] = ("groups", "exclude")
    section: ClassVar[str] = "impact"

    def __post_init__(self) -> None:
        if self.delta is not None and not _is_share(self.delta):
            raise ArgumentError(f"delta = {self.delta!r}; a number between 0 and 1 is needed, such as 1e-5")

    def evidence(self, rule: Scope, subject: Subject, reference: Subject | None) -> Iterator[Batch | Problem]:
        """The ε of each arm."""
        arms = arms_of(subject, _ARMS)
        if isinstance(arms, str):
            yield Problem(None, None, arms)
            return
        chosen, problems = choose_arms(rule, arms)
        yield from problems
        if not rule.treatments:
            chosen = [name for name, entry in arms.items() if entry.get("private")]
            if not chosen:
                yield Problem(None, None, f"no arm was trained with DP-SGD; there is {', '.join(arms)}")
        for name in chosen:
            found = _epsilon(arms[name], self.delta)
            if isinstance(found, str):
                yield Problem(name, None, found)
            else:
                yield Batch(name, [""], [0], None, Known(np.array([found])), np.zeros(1, dtype=np.int64), [None])


def _epsilon(entry: Mapping[str, Any], delta: float | None) -> float | str:
    privacy = mapping(mapping(entry.get("record")).get("privacy"))
    if not privacy:
        return "no ε is on record: the arm was not trained with DP-SGD"
    spent, recorded = privacy.get("epsilon"), privacy.get("delta")
    if recorded is None or not _is_share(recorded):
        return f"δ on record is {recorded!r}; a number between 0 and 1 is needed"
    judged = recorded if delta is None else delta
    n = privacy.get("n_examples")
    if isinstance(n, int) and judged >= 1 / n:
        return f"δ = {judged:g} is not below 1 / {n}, the number of training examples: such a promise is empty"
    if isinstance(spent, bool) or not isinstance(spent, int | float) or not math.isfinite(spent) or spent <= 0:
        return f"ε on record is {spent!r}; a number above 0 is needed"
    steps = [privacy.get(key) for key in ("noise_multiplier", "sample_rate", "steps")]
    if all(isinstance(x, int | float) and math.isfinite(x) for x in steps):
        made = NoisySteps(*steps)  # type: ignore[arg-type]
        try:
            comes_to = epsilon_spent([made], recorded)
        except ArgumentError as error:
            return f"what ε comes from cannot be used: {error}"
        if not math.isclose(spent, comes_to, rel_tol=_TOLERANCE):
            return (
                f"figures contradict each other: ε on record is {spent:.6g} at δ = {recorded:g}, and noise, sample "
                f"rate and steps on record come to {comes_to:.6g}; write the report again (memaudit report STORE)"
            )
        return float(spent) if recorded <= judged else epsilon_spent([made], judged)
    if recorded > judged:
        return f"ε is on record at δ = {recorded:g} and not at {judged:g}, and what it comes from is not"
    return float(spent)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1
