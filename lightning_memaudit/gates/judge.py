"""From evidence to verdicts: an intersection–union test to pass, Holm over all rows of the policy to fail."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.uncertainty import adjust_p_values
from lightning_memaudit.gates.evidence import p_values
from lightning_memaudit.gates.policy.selectors import matches
from lightning_memaudit.gates.tables import Batch, Problem
from lightning_memaudit.gates.verdicts import Row, Verdict
from lightning_memaudit.record.estimates import NOTHING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from lightning_memaudit.functional.checks import BoolArray, FloatArray
    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.policy import Policy, Rule, Waiver

__all__ = ["judge"]

_EMPTY = "the rule judges nothing: all groups that fit it are excluded"


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A batch with its figures; larger is worse, whatever people read. ``p`` is filled in where ``above`` holds."""

    rule: Rule
    batch: Batch
    estimate: FloatArray
    lower: FloatArray
    upper: FloatArray
    sound: BoolArray
    above: BoolArray
    p: FloatArray

    @property
    def margin(self) -> float:
        return float(_turned(self.rule, self.rule.margin))


def judge(
    policy: Policy, subject: Subject, reference: Subject | None, *, alpha: float, today: dt.date
) -> tuple[list[Row], int]:
    """Judge every rule on everything that it is about.

    A row passes where its one-sided upper bound at α keeps the margin. A gate passes where all rows do, so that rows
    need no correction (intersection–union). A row fails where the p-value of "the margin is kept", adjusted by Holm
    over all rows of the policy that rest on samples, is below α. All else is inconclusive, and what cannot be judged
    an error.

    Args:
        policy: The rules.
        subject: What is judged.
        reference: What it is compared with.
        alpha: Level of this look.
        today: The day on which waivers are judged.

    Returns:
        The rows in the order of the rules, and the number of p-values that were adjusted for.
    """
    findings: list[_Judged | tuple[Rule, Problem]] = []
    for rule in policy.rules:
        found = list(rule.kind.evidence(rule, subject, reference)) or [Problem(None, None, _EMPTY)]
        findings += [_measured(rule, part, alpha) if isinstance(part, Batch) else (rule, part) for part in found]
    batches = [part for part in findings if isinstance(part, _Judged)]
    sampled = [part for part in batches if not part.batch.evidence.is_exact]
    beyond = [part for part in sampled if part.above.any()]
    asked = [(part.batch.evidence, part.batch.rows[part.above], part.margin) for part in beyond]
    for batch, p in zip(beyond, p_values(asked), strict=True):
        batch.p[batch.above] = p
    known = np.concatenate([np.empty(0), *(part.p for part in sampled)])
    # Rows without a p-value have one of at least α, which no step of Holm rejects; they count all the same.
    n_problems = len(findings) - len(batches)
    adjusted = adjust_p_values(np.concatenate([np.where(np.isnan(known), 1.0, known), np.ones(n_problems)]))
    ends = np.cumsum([len(part.p) for part in sampled])
    by_batch = {id(part): adjusted[end - len(part.p) : end] for part, end in zip(sampled, ends, strict=True)}
    rows: list[Row] = []
    for part in findings:
        if isinstance(part, _Judged):
            rows += _rows(part, by_batch.get(id(part), part.p), alpha, today)
        else:
            rows.append(_error(*part, alpha, today))
    return rows, len(adjusted)


def _measured(rule: Rule, batch: Batch, alpha: float) -> _Judged:
    evidence, rows = batch.evidence, batch.rows
    lower, upper = (end[rows] for end in evidence.bounds(alpha))
    estimate = evidence.estimate[rows]
    finite = np.isfinite(estimate) & np.isfinite(lower) & np.isfinite(upper)
    sound = finite & (evidence.is_exact | (upper > lower))
    above = sound & (lower > _turned(rule, rule.margin))
    return _Judged(rule, batch, estimate, lower, upper, sound, above, np.full(len(rows), np.nan))


def _rows(part: _Judged, adjusted: FloatArray, alpha: float, today: dt.date) -> Iterator[Row]:
    rule, batch = part.rule, part.batch
    exact, covers = batch.evidence.is_exact, batch.evidence.covers_models
    found = _found(part, adjusted, alpha)
    undecided = np.flatnonzero([verdict is Verdict.INCONCLUSIVE for verdict in found])
    needed = dict(
        zip(undecided.tolist(), batch.evidence.needed(part.margin, alpha, batch.rows[undecided]), strict=True)
    )
    ends = [_turned(rule, end) for end in (part.lower, part.upper)]
    value, lower, upper = (
        _numbers(x) for x in (_turned(rule, part.estimate), *(ends[::-1] if _is_mirrored(rule) else ends))
    )
    p, holm = (_numbers(np.where(part.above, x, np.nan)) for x in (part.p, adjusted))
    for i, group in enumerate(batch.groups):
        waiver = _waiver(rule, batch.treatment, group)
        yield Row(
            rule=rule,
            treatment=batch.treatment,
            group=group or None,
            found=found[i],
            alpha=alpha,
            n=batch.n[i] or None,
            n_models=batch.n_models,
            value=value[i],
            lower=lower[i],
            upper=upper[i],
            p=p[i],
            p_adjusted=holm[i],
            is_exact=exact,
            needed=needed.get(i, NOTHING),
            problem=_problem(part, i) if found[i] is Verdict.ERROR else None,
            doubt=batch.doubts[i],
            covers_models=None if covers is None else bool(covers[batch.rows[i]]),
            waiver=waiver,
            is_expired=waiver is not None and waiver.expires < today,
        )


def _found(part: _Judged, adjusted: FloatArray, alpha: float) -> list[Verdict]:
    """Verdicts, waivers aside."""
    exact = part.batch.evidence.is_exact
    enough = np.array(part.batch.n) >= part.rule.min_n
    keeps = part.sound & (part.upper <= part.margin) & (exact | enough)
    breaks = part.above & (exact | (enough & (adjusted < alpha)))
    doubtful = np.array([doubt is not None for doubt in part.batch.doubts])
    return [
        Verdict.ERROR if not sound else Verdict.FAIL if fails else Verdict.PASS if passes else Verdict.INCONCLUSIVE
        for sound, fails, passes in zip(part.sound, breaks, keeps & ~doubtful, strict=True)
    ]


def _problem(part: _Judged, i: int) -> str:
    if not np.isfinite([part.estimate[i], part.lower[i], part.upper[i]]).all():
        return "a figure is missing or not finite"
    return "the interval has no width, and says nothing"


def _error(rule: Rule, problem: Problem, alpha: float, today: dt.date) -> Row:
    waiver = None if problem.group is None else _waiver(rule, problem.treatment, problem.group)
    return Row(
        rule=rule,
        treatment=problem.treatment,
        group=problem.group,
        found=Verdict.ERROR,
        alpha=alpha,
        problem=problem.message,
        waiver=waiver,
        is_expired=waiver is not None and waiver.expires < today,
    )


def _waiver(rule: Rule, treatment: str | None, group: str) -> Waiver | None:
    """The waiver that fits; of several the one that lasts longest."""
    if not rule.waivers:
        return None
    fitting = [
        waiver
        for waiver in rule.waivers
        if matches(group, waiver.groups) and (treatment is None or matches(treatment, waiver.treatments))
    ]
    return max(fitting, key=lambda waiver: waiver.expires, default=None)


def _is_mirrored(rule: Rule) -> bool:
    """Whether people read one minus what is judged: an accuracy, not an error rate."""
    return rule.kind.direction == "at least"


def _turned(rule: Rule, numbers: Any) -> Any:
    """Between what is judged (larger is worse) and what people read."""
    return 1.0 - numbers if _is_mirrored(rule) else numbers


def _numbers(values: FloatArray) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in values.tolist()]
