"""A policy to start from, made from a report."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.gates.policy.file import SCHEMA, policy_of
from lightning_memaudit.gates.policy.selectors import OVERALL
from lightning_memaudit.gates.rules import KINDS
from lightning_memaudit.gates.tables import Batch
from lightning_memaudit.gates.wording import signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.policy import Rule

__all__ = ["starter"]

_ALPHA = 0.05
_ALL = ("*",)
_TRIED = ("drop", "accuracy", "memorization", "memorization_prevalence", "epsilon")
_HEAD = """\
# A policy for memaudit gate, made from {source}.
# Margins are what that report keeps today, rounded away from it: read every one, and set what you mean to allow.
# A row passes where its one-sided 95 % bound keeps the margin, and fails where its p-value, by Holm over all rows,
# is below alpha. memaudit gate --explain KIND says what a kind of rule means.
schema = 1
alpha = 0.05
# What an undecided row does to the build: "pass", "warn" (say so, exit code 0) or "fail" (exit code 3).
on_inconclusive = "warn"
"""


def starter(subject: Subject) -> str:
    """The policy as commented TOML.

    Args:
        subject: The report.
    """
    subject.read(KINDS[kind]().section for kind in _TRIED)
    parts = [_HEAD.format(source=subject.name)]
    parts += [part for kind in _TRIED for part in _rules(kind, subject)]
    if len(parts) == 1:
        parts.append(_empty())
    parts.append(_EXTRAS)
    return "\n".join(parts)


def _rules(kind: str, subject: Subject) -> Iterator[str]:
    """One rule for each arm that the report has figures of."""
    found = policy_of({"schema": SCHEMA, "rules": {kind: {"kind": kind, "margin": 0.0}}}).rules[0]
    if found.groups == _ALL:
        found = replace(found, groups=(*_ALL, OVERALL))
    batches: dict[str | None, list[Batch]] = {}
    empty: dict[str | None, list[str]] = {}
    for part in found.kind.evidence(found, subject, None):
        if isinstance(part, Batch):
            batches.setdefault(part.treatment, []).append(part)
        elif part.group is not None:
            empty.setdefault(part.treatment, []).append(part.group)
    for arm, own in batches.items():
        text = _rule(found, arm, own, empty.get(arm, []))
        if text is not None:
            yield text


def _rule(rule: Rule, arm: str | None, batches: list[Batch], empty: list[str]) -> str | None:
    figures: list[tuple[str, float, float]] = []
    for batch in batches:
        estimate, upper = batch.evidence.estimate[batch.rows], batch.evidence.bounds(_ALPHA)[1][batch.rows]
        known = np.isfinite(estimate) & np.isfinite(upper)
        rows = zip(batch.groups, estimate, upper, strict=True)
        figures += [row for row, is_known in zip(rows, known, strict=True) if is_known]
    if not figures:
        return None
    kind = rule.kind
    worst = max(figures, key=lambda row: row[1])
    among = f" in {worst[0]}, the worst of {len(figures)}" if len(figures) > 1 else ""
    is_floor = kind.direction == "at least"
    today = signed(float(1 - worst[1] if is_floor else worst[1]), kind.unit)
    lines = [
        f"[rules.{_key(kind.name.replace('_', '-') + ('' if arm is None else f'-{arm}'))}]",
        f"# {kind.margin_means}. Today {today}{among}.",
        f'kind = "{kind.name}"',
        f"margin = {_margin(rule, float(max(upper for _, _, upper in figures)))!r}",
    ]
    if arm is not None:
        lines.append(f"treatments = [{_text(arm)}]")
    if rule.groups:
        lines.append(f"groups = [{', '.join(_text(group) for group in rule.groups)}]")
    if empty:
        lines.append(f"exclude = [{', '.join(map(_text, empty))}]  # nothing can be said of these here")
    return "\n".join([*lines, ""])


def _margin(rule: Rule, reach: float) -> float:
    """The largest upper bound, rounded away from what was seen, within what the value can be."""
    step = 0.5 if rule.kind.name == "epsilon" else 0.01
    margin = math.ceil(reach / step - 1e-9) * step
    if rule.kind.unit == "share":
        margin = min(margin, 1.0)
    return round(1 - margin if rule.kind.direction == "at least" else margin, 4)


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _text(name)


def _text(name: str) -> str:
    """A TOML string; JSON's escapes are TOML's, but for DEL."""
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def _empty() -> str:
    return "# The report has no figures that a rule could be made of.\n"


_EXTRAS = f"""\
# More that a rule may say:
#   exclude = ["label=7"]              groups that are left out
#   groups = ["memorization=*"]        bins of memorization of training examples, from other models than those judged
#   min_n = 50                         smaller groups are inconclusive, whatever their figures
#   on_inconclusive = "fail"           for this rule alone
#   informational = true               shown, without effect on the exit code
#   reason = "why the rule exists"
#   [[rules.NAME.waivers]]             a finding that somebody answers for, until a date
#   groups = ["label=3"]
#   reason = "retrained in May"
#   expires = 2027-05-31
# Kinds: {", ".join(KINDS)}.
# Repeated looks at one test set: [looks] planned = 20 shares alpha among them; a baseline file counts them.
"""
