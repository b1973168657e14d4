"""Rows of a report as evidence, and the choice of those that a rule is about."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.gates.coherence import contradictions, sums, unequal
from lightning_memaudit.gates.policy.selectors import MEMORIZATION, OVERALL, group_name, matches
from lightning_memaudit.record.levels import LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lightning_memaudit.functional.checks import IntArray
    from lightning_memaudit.gates.coherence import Printed
    from lightning_memaudit.gates.evidence import Evidence
    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.scope import Scope

__all__ = [
    "Batch",
    "Problem",
    "Question",
    "Table",
    "arms_of",
    "choose_arms",
    "choose_groups",
    "mapping",
    "select",
    "tables_of",
]

_BINS_OF_SCORES = "bins of memorization scores"  # what data.groups.by_memorization writes


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Groups of one arm that can be judged together.

    Attributes:
        treatment: The arm; None where the rule is not about one.
        groups: Their names.
        n: Their sizes.
        n_models: Models of the smaller arm.
        evidence: Estimates and bounds of these and other groups.
        rows: Place of each group in ``evidence``, int64.
        doubts: Why a group cannot pass although its bound would; None where it can.
    """

    treatment: str | None
    groups: Sequence[str]
    n: Sequence[int]
    n_models: int | None
    evidence: Evidence
    rows: IntArray
    doubts: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a rule asks for and that is not there: an error.

    Attributes:
        treatment: The arm, or the selector that fits none.
        group: The group, or the selector that fits none.
        message: What is wrong, and what to do.
    """

    treatment: str | None
    group: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Question:
    """What a rule reads from a report.

    Attributes:
        section: The section.
        record: Name of the record in a row's ``statistics``.
        read: Makes evidence of records; an ``ArgumentError`` says what is wrong with one.
        printed: What the report prints beside the records, to be held against them.
        doubt: Tells from a row why its group cannot pass, or None.
    """

    section: str
    record: str
    read: Callable[[Sequence[Mapping[str, Any]]], Evidence]
    printed: Printed
    doubt: Callable[[Mapping[str, Any]], str | None] = lambda row: None  # noqa: ARG005


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """All groups of a grouping.

    Attributes:
        names: Names of the groups.
        n: Their sizes.
        n_models: Models of the smaller arm.
        problems: Why a group cannot be judged; None where it can.
        doubts: Why it cannot pass.
        evidence: Evidence of those that can be judged; None without any.
        place: Place of each group in the evidence, int64; −1 without one.
        totals: Sums over the groups of what they share out; None where a group cannot be read.
    """

    names: tuple[str, ...]
    n: tuple[int, ...]
    n_models: int | None
    problems: tuple[str | None, ...]
    doubts: tuple[str | None, ...]
    evidence: Evidence | None
    place: IntArray
    totals: Mapping[str, float] | None = None


def select(rule: Scope, subject: Subject, question: Question) -> Iterator[Batch | Problem]:
    """Everything that a rule is about, in the order of the report."""
    arms = arms_of(subject, question)
    if isinstance(arms, str):
        yield Problem(None, None, arms)
        return
    chosen, problems = choose_arms(rule, arms)
    yield from problems
    for arm in chosen:
        entry = arms[arm]
        if entry.get("status") != "ok":
            yield Problem(arm or None, None, str(entry.get("reason") or "the report says nothing of it"))
            continue
        yield from choose_groups(rule, arm or None, tables_of(subject, question, arm, entry), subject)


def arms_of(subject: Subject, question: Question) -> dict[str, dict[str, Any]] | str:
    """Entries by arm (the empty name for a section without arms), or why there are none."""
    section = subject.section(question.section)
    if section.get("status") != "ok":
        return f"{question.section}: {section.get('reason') or 'the section is unavailable'}"
    arms = {"": section} if _is_memorization(question.section) else section.get("arms")
    if not isinstance(arms, dict) or not arms:
        return f"{question.section}: the report has no arm"
    return {name: dict(mapping(entry)) for name, entry in arms.items()}


def choose_arms(rule: Scope, arms: Mapping[str, Any]) -> tuple[list[str], list[Problem]]:
    """Arms that a rule is about, and its selectors that fit none."""
    if "" in arms:
        return [""], []
    chosen = [arm for arm in arms if matches(arm, rule.treatments)]
    idle = [selector for selector in rule.treatments if not any(matches(arm, [selector]) for arm in arms)]
    known = ", ".join(arms)
    problems = []
    for name in idle:
        near = difflib.get_close_matches(name, list(arms), n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        problems.append(Problem(name, None, f"no arm fits treatments={name!r}; {meant}there is {known}"))
    return chosen, problems


def choose_groups(
    rule: Scope, arm: str | None, tables: Mapping[str, Table | str], subject: Subject
) -> Iterator[Batch | Problem]:
    """Groups of one arm that a rule is about, and its selectors that fit none."""
    used: set[str] = set()
    for grouping, table in tables.items():
        selectors = [selector for selector in rule.groups if _is_meant(grouping, selector)]
        if isinstance(table, str):
            if matches(f"{grouping}=", selectors) and not matches(f"{grouping}=", rule.exclude):
                used |= {selector for selector in selectors if matches(f"{grouping}=", [selector])}
                yield Problem(arm, f"{grouping}=*", table)
            continue
        kept = [g for g, name in enumerate(table.names) if matches(name, selectors)]
        used |= {selector for selector in selectors if any(matches(name, [selector]) for name in table.names)}
        kept = [g for g in kept if not matches(table.names[g], rule.exclude)]
        yield from _judged(arm, table, kept, _untrusted(rule, grouping, subject))
    for selector in rule.groups:
        if selector not in used:
            yield Problem(arm, selector, _absent(selector, tables))


def _judged(arm: str | None, table: Table, kept: list[int], untrusted: str | None) -> Iterator[Batch | Problem]:
    problems = [(g, untrusted or table.problems[g]) for g in kept]
    sound = [g for g, problem in problems if problem is None]
    if sound and table.evidence is not None:
        yield Batch(
            treatment=arm,
            groups=[table.names[g] for g in sound],
            n=[table.n[g] for g in sound],
            n_models=table.n_models,
            evidence=table.evidence,
            rows=table.place[sound],
            doubts=[table.doubts[g] for g in sound],
        )
    yield from (Problem(arm, table.names[g], problem) for g, problem in problems if problem is not None)


def _is_meant(grouping: str, selector: str) -> bool:
    """Patterns fit the whole and bins of memorization only where they name them."""
    if grouping in (OVERALL, MEMORIZATION):
        return selector.startswith(grouping)
    return True


def _untrusted(rule: Scope, grouping: str, subject: Subject) -> str | None:
    if rule.cross_fitted or grouping in (OVERALL, MEMORIZATION) or subject.how_grouped(grouping) != _BINS_OF_SCORES:
        return None
    return (
        f"the groups of {grouping!r} are bins of memorization scores, and scores of the models that are judged share "
        f"their chance errors; use groups = ['{MEMORIZATION}=*'], whose bins come from other models, or say "
        "cross_fitted = true where the scores are from another audit"
    )


def _absent(selector: str, tables: Mapping[str, Table | str]) -> str:
    grouping, sign, group = selector.partition("=")
    if isinstance(reason := tables.get(grouping), str):
        return reason
    names = [name for table in tables.values() if isinstance(table, Table) for name in table.names]
    known = sorted({*tables} - {OVERALL}) if grouping not in tables else []
    near = difflib.get_close_matches(grouping, [*tables] if known else [], n=1)
    if near and near[0] != OVERALL:
        near = [f"{near[0]}{sign or '='}{group or '*'}"]
    near = near or difflib.get_close_matches(selector, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else ""
    if known:
        hint = f"{hint} the report has groupings {', '.join(known)}".strip()
    return f"no group fits groups={selector!r}; {hint or 'groups are called grouping=name, such as label=3'}"


def tables_of(subject: Subject, question: Question, arm: str, entry: Mapping[str, Any]) -> dict[str, Table | str]:
    """Tables by grouping, or why there is none; read once for all rules."""
    key = (question.section, question.record, arm)
    if key not in subject.cache:
        n_models, level = entry.get("n_models"), subject.section(question.section).get("level", LEVEL)
        subject.cache[key] = _held_against_the_whole(
            {
                grouping: rows if isinstance(rows, str) else _table(grouping, rows, models or n_models, question, level)
                for grouping, (rows, models) in _rows_of(question.section, entry).items()
            }
        )
    tables: dict[str, Table | str] = subject.cache[key]
    return tables


def _rows_of(section: str, entry: Mapping[str, Any]) -> dict[str, tuple[list[Any] | str, int | None]]:
    """Rows of every grouping with the models behind them, or why there are none."""
    parts: dict[str, tuple[list[Any] | str, int | None]] = {}
    if isinstance(entry.get("overall"), dict):
        parts[OVERALL] = [{"group": "all", **entry["overall"]}], None
    if _is_memorization(section) and isinstance(entry.get("by_class"), list) and entry["by_class"]:
        parts["label"] = entry["by_class"], None
    by_group = entry.get("by_group")
    for grouping, part in by_group.items() if isinstance(by_group, dict) else ():
        if isinstance(part, list):
            parts[grouping] = part, None
        elif isinstance(part, dict):
            rows = part.get("rows")
            known = part.get("status") == "ok" and isinstance(rows, list)
            parts[grouping] = (rows or [] if known else str(part.get("reason") or "its rows are missing"), None)
    if section == "impact":
        parts[MEMORIZATION] = _reserved(MEMORIZATION) if MEMORIZATION in parts else _bins(entry)
    if OVERALL in mapping(by_group):
        parts[OVERALL] = _reserved(OVERALL)
    return parts


def _reserved(name: str) -> tuple[str, None]:
    return f"a grouping of the audit is called {name!r}, which is a name of policies; audit with another one", None


def _is_memorization(section: str) -> bool:
    return section.partition("@")[0] == "memorization"


def _bins(entry: Mapping[str, Any]) -> tuple[list[Any] | str, int | None]:
    bins = mapping(mapping(entry.get("by_memorization")).get("bins"))
    rows = bins.get("rows")
    if bins.get("status") != "ok" or not isinstance(rows, list):
        return str(bins.get("reason") or "the report has no bins of memorization"), None
    known = [mapping(row) for row in rows]
    names = [_bin_name(row.get("from"), row.get("to"), b, len(rows)) for b, row in enumerate(known)]
    return [{**row, "group": name} for row, name in zip(known, names, strict=True)], bins.get("n_models")


def _bin_name(low: Any, high: Any, b: int, n_bins: int) -> str:
    """As ``data.groups.by_memorization`` calls them: the first holds all that is lower, the last all that is higher."""
    if b == 0:
        return f"below {high}"
    return f"{low} or more" if b == n_bins - 1 else f"{low} to {high}"


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping of a report, or an empty one where something else stands there."""
    return value if isinstance(value, dict) else {}


def _held_against_the_whole(tables: dict[str, Table | str]) -> dict[str, Table | str]:
    """Tables with an error wherever the groups of a grouping do not add up to the whole, which then is one too."""
    whole = tables.get(OVERALL)
    if not isinstance(whole, Table) or whole.totals is None:
        return tables
    held = dict(tables)
    for grouping, table in tables.items():
        if grouping in (OVERALL, MEMORIZATION) or not isinstance(table, Table) or table.totals is None:
            continue  # bins are of other examples, or of fewer, than the whole
        if said := unequal(grouping, table.totals, whole.totals):
            held[grouping], held[OVERALL] = _refused(table, said), _refused(whole, said)
    return held


def _refused(table: Table, reason: str) -> Table:
    return replace(table, problems=tuple(problem or reason for problem in table.problems))


def _table(grouping: str, rows: Sequence[Any], n_models: Any, question: Question, level: Any) -> Table:
    rows = [mapping(row) for row in rows]
    names = tuple(group_name(grouping, str(row.get("group"))) for row in rows)
    records = [_record(row, question) for row in rows]
    problems = [
        _unnamed(row, name, names) or (record if isinstance(record, str) else None)
        for row, name, record in zip(rows, names, records, strict=True)
    ]
    sound = [g for g, problem in enumerate(problems) if problem is None]
    try:
        evidence = question.read([records[g] for g in sound]) if sound else None  # type: ignore[misc]
    except ArgumentError:
        for g in sound:
            try:
                question.read([records[g]])  # type: ignore[list-item]
            except ArgumentError as error:
                problems[g] = f"its figures cannot be used: {error}"
        sound = [g for g, problem in enumerate(problems) if problem is None]
        try:
            evidence = question.read([records[g] for g in sound]) if sound else None  # type: ignore[misc]
        except ArgumentError as error:
            problems = [problem or f"its figures do not go with those of other groups: {error}" for problem in problems]
            sound, evidence = [], None
    is_whole = all(problem is None or _is_void(row, question) for row, problem in zip(rows, problems, strict=True))
    totals = sums(rows, evidence, question.printed) if is_whole else None
    if evidence is not None:
        found = contradictions([rows[g] for g in sound], evidence, question.printed, level)
        for g, contradiction in zip(sound, found, strict=True):
            problems[g] = contradiction
    place: IntArray = np.full(len(rows), -1, dtype=np.int64)
    place[sound] = np.arange(len(sound))
    return Table(
        names=names,
        n=tuple(_size(row) for row in rows),
        n_models=n_models if isinstance(n_models, int) else None,
        problems=tuple(problems),
        doubts=tuple(question.doubt(row) for row in rows),
        evidence=evidence,
        place=place,
        totals=totals,
    )


def _is_void(row: Mapping[str, Any], question: Question) -> bool:
    """Whether a group has nothing to be judged by, and adds nothing to the whole."""
    return not _size(row) or mapping(row.get("statistics")).get(question.record, row) is None


def _unnamed(row: Mapping[str, Any], name: str, names: Sequence[str]) -> str | None:
    if not isinstance(row.get("group"), str):
        return f"its figures cannot be used: the group is called {row.get('group')!r}, and a name is needed"
    return "its figures cannot be used: several groups have this name" if names.count(name) > 1 else None


def _size(row: Mapping[str, Any]) -> int:
    n = row.get("n")
    return n if isinstance(n, int) and not isinstance(n, bool) and n > 0 else 0


def _record(row: Mapping[str, Any], question: Question) -> Mapping[str, Any] | str:
    if not _size(row):
        return "the group has no examples; if that is right, name it in exclude"
    statistics = row.get("statistics")
    if not isinstance(statistics, dict) or question.record not in statistics:
        return "the report lacks what bounds need; write it again with this version (memaudit report STORE)"
    record = statistics[question.record]
    if record is None:
        return "there is no interval: " + (
            "the group holds every example, so that nothing can be compared with it; name it in exclude"
            if question.record in ("excess", "gap")
            else "none of its examples could be estimated"
        )
    return record if isinstance(record, dict) else f"its figures cannot be used: statistics is {record!r:.60}"
