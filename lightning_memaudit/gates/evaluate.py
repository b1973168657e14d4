"""``evaluate_gate``: a report and a policy in, verdicts and an exit code out."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from lightning_memaudit.gates.judge import judge
from lightning_memaudit.gates.judged_report import subject_of
from lightning_memaudit.gates.notices import notices
from lightning_memaudit.gates.policy.file import policy_of
from lightning_memaudit.gates.reference.looks import look_of
from lightning_memaudit.gates.reference.report import reference_of
from lightning_memaudit.gates.verdicts import GateResult

if TYPE_CHECKING:
    from lightning_memaudit.gates.judged_report import Judged
    from lightning_memaudit.gates.reference.report import ReferenceReport

__all__ = ["evaluate_gate"]


def evaluate_gate(
    report: Judged, policy: Any, *, baseline: Judged | ReferenceReport | None = None, today: dt.date | None = None
) -> GateResult:
    """Judge a report by a policy.

    Args:
        report: An ``AuditReport``, an ``OutcomeStore``, the content of a ``report.json``, or the path of a
            ``report.json``, of a folder with one, or of a store. From a store only the sections that rules need are
            computed; verdicts are the same.
        policy: The path of a TOML file, its content as a mapping, or a ``Policy``.
        baseline: What to compare with: as ``report``, or a baseline file that ``memaudit gate --update-baseline``
            wrote. Two stores are compared example by example.
        today: The day on which waivers are judged; None is today.

    Returns:
        One row for each rule, treatment and group, with ``exit_code``, ``passed`` and ``to_dict()``.

    Raises:
        ConfigurationError: The policy is wrong.
        StoreError: There is nothing to judge or to compare with, or it cannot be read.

    Example:
        >>> rules = {"privacy": {"kind": "epsilon", "margin": 8.0}}
        >>> arm = {"status": "ok", "private": True, "record": {"privacy": {"epsilon": 3.0, "delta": 1e-5}}}
        >>> report = {"schema": 2, "impact": {"status": "ok", "arms": {"dpsgd": arm}}}
        >>> evaluate_gate(report, {"schema": 1, "rules": rules}).passed
        True
    """
    rules, subject = policy_of(policy), subject_of(report)
    known = None if baseline is None else reference_of(baseline)
    earlier = None if known is None else known.subject
    for side in (subject, earlier):
        if side is not None:
            side.read(rule.kind.section for rule in rules.rules if side is subject or rule.kind.compares)
    look = look_of(rules, subject, known)
    rows, n_tests = judge(rules, subject, earlier, alpha=look.alpha, today=today or dt.date.today())
    return GateResult(
        policy=rules,
        rows=tuple(rows),
        source=subject.name,
        baseline=None if earlier is None else earlier.name,
        alpha=look.alpha,
        look=look.number,
        n_tests=n_tests,
        warnings=(*look.warnings, *notices(rules, rows, subject, earlier)),
    )
