"""What a reader of verdicts must know that belongs to no row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_memaudit.gates.reference.compatibility import other_versions
from lightning_memaudit.gates.verdicts import Verdict

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.policy import Policy
    from lightning_memaudit.gates.verdicts import Row

__all__ = ["expired", "notices", "out_of_range"]


def notices(policy: Policy, rows: Sequence[Row], subject: Subject, reference: Subject | None) -> Iterator[str]:
    """Baselines that no rule uses, other versions of libraries, waivers that fit nothing or are no longer needed."""
    if reference is not None:
        if not any(rule.kind.compares for rule in policy.rules):
            yield "there is a baseline, and no rule compares with it: add one of kind 'regression'"
        if differ := other_versions(subject, reference):
            yield f"the baseline was made with other versions: {'; '.join(differ)}"
    yield from out_of_range(policy)
    used = {(row.rule.name, row.waiver) for row in rows if row.waiver is not None}
    open_rows = (row for row in rows if row.found in (Verdict.FAIL, Verdict.INCONCLUSIVE))
    needed = {(row.rule.name, row.waiver) for row in open_rows if row.waiver is not None}
    for rule in policy.rules:
        for number, waiver in enumerate(rule.waivers):
            if (rule.name, waiver) not in used:
                yield f"rules.{rule.name}.waivers[{number}] fits no row; remove it, or mend its groups and treatments"
            elif (rule.name, waiver) not in needed:
                yield f"rules.{rule.name}.waivers[{number}] waives nothing that is not passed; remove it"


def out_of_range(policy: Policy) -> Iterator[str]:
    """Margins that no share and no difference of shares can reach."""
    for rule in policy.rules:
        if rule.kind.unit != "number" and abs(rule.margin) > 1:
            yield (
                f"rules.{rule.name}: margin = {rule.margin:g} is {100 * rule.margin:g} %, which no figure can reach; "
                "0.05 is five points"
            )


def expired(policy: Policy, today: dt.date) -> Iterator[str]:
    """Waivers that waive nothing any more."""
    for rule in policy.rules:
        for number, waiver in enumerate(rule.waivers):
            if waiver.expires < today:
                yield f"rules.{rule.name}.waivers[{number}] expired on {waiver.expires}; renew or remove it"
