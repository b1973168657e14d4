"""A rule on what got worse since a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.uncertainty import take
from lightning_memaudit.gates.reference.compatibility import mismatches
from lightning_memaudit.gates.rules.accuracy import ERROR
from lightning_memaudit.gates.rules.difference import Difference
from lightning_memaudit.gates.rules.drop import DROP
from lightning_memaudit.gates.rules.memorization import MEAN
from lightning_memaudit.gates.tables import Problem, Table, arms_of, choose_arms, choose_groups, tables_of
from lightning_memaudit.record.estimates import Estimate, by_factor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.scope import Scope
    from lightning_memaudit.gates.rules.base import Direction, Unit
    from lightning_memaudit.gates.tables import Batch, Question

__all__ = ["Regression"]

Metric = Literal["accuracy", "drop", "memorization"]
_QUESTIONS: dict[str, Question] = {"accuracy": ERROR, "drop": DROP, "memorization": MEAN}


@dataclass(frozen=True, slots=True)
class Regression:
    """By how much a group is worse off than in the baseline.

    ``metric`` says in what: accuracy lost (``"accuracy"``), drop grown (``"drop"``) or mean memorization grown
    (``"memorization"``).

    Where both are stores, accuracy is compared example by example, and model by model where both have one plan. From
    reports the two are treated as independent, which makes bounds wider than they need be and never too narrow, since
    both share their test examples. A baseline of another test set, other labels, groups or statistics is an error.
    """

    metric: Metric = "accuracy"

    name: ClassVar[str] = "regression"
    direction: ClassVar[Direction] = "at most"
    unit: ClassVar[Unit] = "points"
    margin_means: ClassVar[str] = "the largest worsening allowed: 0.02 is two points"
    default_treatments: ClassVar[tuple[str, ...]] = ("*",)
    default_groups: ClassVar[tuple[str, ...]] = ("*",)
    compares: ClassVar[bool] = True
    ignores: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise ArgumentError(f"metric = {self.metric!r}; one of {', '.join(get_args(Metric))} is needed")

    @property
    def section(self) -> str:
        """The section that the metric is in."""
        return _QUESTIONS[self.metric].section

    def evidence(self, rule: Scope, subject: Subject, reference: Subject | None) -> Iterator[Batch | Problem]:
        """Worsening of the groups."""
        if reference is None:
            yield Problem(None, None, "the rule compares with a baseline and there is none; pass --baseline")
            return
        question = _QUESTIONS[self.metric]
        now, then = arms_of(subject, question), arms_of(reference, question)
        if isinstance(now, str) or isinstance(then, str):
            yield Problem(None, None, now if isinstance(now, str) else f"baseline: {then}")
            return
        differ = mismatches(subject, reference, question)
        if differ:
            yield Problem(None, None, f"the baseline cannot be compared with: {'; '.join(differ)}")
            return
        chosen, problems = choose_arms(rule, now)
        yield from problems
        for arm in choose_arms(rule, then)[0]:
            if arm not in now:
                yield Problem(arm or None, None, "the baseline has this arm and the report has lost it")
        for arm in chosen:
            problem = _unusable(now.get(arm), "the report") or _unusable(then.get(arm), "the baseline")
            if problem is not None:
                yield Problem(arm or None, None, problem)
                continue
            tables = self._tables(question, subject, reference, arm, (now[arm], then[arm]))
            yield from choose_groups(rule, arm or None, tables, subject)

    def _tables(
        self, question: Question, subject: Subject, reference: Subject, arm: str, entries: tuple[Any, Any]
    ) -> dict[str, Table | str]:
        key = ("regression", question.section, question.record, arm, id(reference))
        if key not in subject.cache:
            records = subject.record, reference.record
            if self.metric == "accuracy" and records[0] is not None and records[1] is not None:
                from lightning_memaudit.gates.reference.paired_stores import paired_tables

                subject.cache[key] = paired_tables(records[0], records[1], arm)
            else:
                now = tables_of(subject, question, arm, entries[0])
                then = tables_of(reference, question, arm, entries[1])
                lost = dict.fromkeys(then, "the baseline has this grouping and the report has lost it")
                subject.cache[key] = lost | {name: _against(now[name], then.get(name)) for name in now}
        tables: dict[str, Table | str] = subject.cache[key]
        return tables


def _unusable(entry: Any, whose: str) -> str | None:
    if entry is None:
        return f"{whose} has no such arm"
    if entry.get("status") != "ok":
        return f"{whose} cannot say: {entry.get('reason') or 'the entry is unavailable'}"
    return None


def _against(now: Table | str, then: Table | str | None) -> Table | str:
    """Every group of a table, new minus old."""
    if isinstance(now, str):
        return now
    if then is None or isinstance(then, str):
        return f"baseline: {then or 'it has no such grouping'}"
    before = {name: g for g, name in enumerate(then.names)}
    problems = list(now.problems)
    for g, name in enumerate(now.names):
        if problems[g] is None:
            problems[g] = "the baseline has no such group" if name not in before else then.problems[before[name]]
    sound = [g for g, problem in enumerate(problems) if problem is None]
    place = np.full(len(now.names), -1, dtype=np.int64)
    place[sound] = np.arange(len(sound))
    evidence = None
    if sound and isinstance(now.evidence, Estimate) and isinstance(then.evidence, Estimate):
        new = take(now.evidence.found, now.place[sound])
        old = take(then.evidence.found, then.place[[before[now.names[g]] for g in sound]])
        covers = [
            None if side.evidence is None or side.evidence.covers_models is None else side.evidence.covers_models[rows]
            for side, rows in (
                (now, now.place[sound]),
                (then, then.place[[before[now.names[g]] for g in sound]]),
            )
        ]
        both = None if covers[0] is None or covers[1] is None else covers[0] & covers[1]
        evidence = Estimate(Difference(new, old), (-2.0, 2.0), by_factor, covers_models=both)
    return Table(now.names, now.n, now.n_models, tuple(problems), now.doubts, evidence, place)
