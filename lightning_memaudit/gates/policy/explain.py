"""What a rule means, in words."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING

from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.gates.rules import KINDS
from lightning_memaudit.gates.wording import level, value

if TYPE_CHECKING:
    from lightning_memaudit.gates.policy.policy import Policy, Rule
    from lightning_memaudit.gates.rules.base import RuleKind

__all__ = ["explain"]

_VERDICTS = """\
pass          the one-sided upper bound keeps the margin (for "at least": the lower bound)
fail          the p-value of "the margin is kept", adjusted by Holm over all rows of the policy, is below alpha
inconclusive  neither; the row says what would decide it
error         a figure, a group or an arm is missing: exit code 4, whatever on_inconclusive says, and never waived
waived        a fail or an inconclusive row that a waiver answers for until its date"""


def explain(name: str, policy: Policy | None) -> str:
    """A rule of the policy, or a kind of rule.

    Args:
        name: Its name.
        policy: The policy, where there is one.

    Raises:
        ConfigurationError: There is neither a rule nor a kind of this name.
    """
    rules = {} if policy is None else {rule.name: rule for rule in policy.rules}
    if name in rules:
        return _of_rule(rules[name], policy)
    if name in KINDS:
        return _of_kind(KINDS[name])
    near = difflib.get_close_matches(name, [*rules, *KINDS], n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigurationError(
        f"--explain {name}: there is no such rule or kind; {meant}rules are {', '.join(rules) or 'none'}, kinds "
        f"{', '.join(KINDS)}"
    )


def _of_kind(kind: type[RuleKind]) -> str:
    about = inspect.getdoc(kind) or ""
    return f"kind {kind.name}: margin = {kind.margin_means}\n\n{about}\n\n{_VERDICTS}"


def _of_rule(rule: Rule, policy: Policy | None) -> str:
    kind = rule.kind
    lines = [f"rule {rule.name}: {kind.name} {kind.direction} {value(rule.margin, kind.unit)}"]
    if rule.reason:
        lines.append(rule.reason)
    lines += ["", inspect.getdoc(type(kind)) or "", ""]
    if rule.treatments:
        lines.append(f"treatments     {', '.join(rule.treatments)}")
    if rule.groups:
        lines.append(f"groups         {', '.join(rule.groups)}")
    if rule.exclude:
        lines.append(f"left out       {', '.join(rule.exclude)}")
    if rule.min_n > 1:
        lines.append(f"min_n          {rule.min_n}: smaller groups are inconclusive, whatever their figures")
    lines.append(f"inconclusive   {rule.on_inconclusive}{' (informational: no effect)' if rule.informational else ''}")
    lines += [
        f"waiver         {', '.join(waiver.groups)} of {', '.join(waiver.treatments)} until {waiver.expires}: "
        f"{waiver.reason}"
        for waiver in rule.waivers
    ]
    if policy is not None:
        lines.append(f"bounds         one-sided, {level(policy.alpha)} each")
    return "\n".join([*lines, "", _VERDICTS])
