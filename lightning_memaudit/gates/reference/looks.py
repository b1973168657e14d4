"""Repeated looks at one test set: how many there were, and what α is left for this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.gates.reference.report import data_key

if TYPE_CHECKING:
    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.policy import Policy
    from lightning_memaudit.gates.reference.report import ReferenceReport

__all__ = ["Look", "look_of", "looks_after"]


@dataclass(frozen=True, slots=True)
class Look:
    """One look.

    Attributes:
        number: From 1; None where nobody counts.
        alpha: What it may spend.
        warnings: What a reader must know.
    """

    number: int | None
    alpha: float
    warnings: tuple[str, ...] = ()


def look_of(policy: Policy, subject: Subject, baseline: ReferenceReport | None) -> Look:
    """Which look this is, and its α.

    Raises:
        MissingDataError: The policy shares α among looks, and nobody counts them, or all are used up.
    """
    key = data_key(subject.content)
    counted = baseline is not None and baseline.looks is not None and key is not None
    number = baseline.looks.get(key, 0) + 1 if counted else None  # type: ignore[union-attr, arg-type]
    if policy.looks is None:
        if number is None or number < 2:
            return Look(number, policy.alpha)
        chance = min(number * policy.alpha, 1.0)
        said = (
            f"this is look {number} at these test examples: each errs with probability up to {policy.alpha:g}, all "
            f"together with up to {100 * chance:.0f} %. Share α among planned looks ([looks] planned = …), or take "
            "fresh test examples"
        )
        return Look(number, policy.alpha, (said,))
    if number is None:
        raise MissingDataError(
            "looks: the policy shares α among looks, and no baseline file counts them; start one with "
            "--update-baseline FILE, and pass --baseline FILE --record-look from then on"
        )
    alpha = policy.looks.alpha(policy.alpha, number)
    if not alpha > 0:
        raise MissingDataError(
            f"looks: this is look {number} at these test examples and planned = {policy.looks.planned}: there is no α "
            "left. Take fresh test examples, which start a new count"
        )
    said = f"look {number} of {policy.looks.planned} at these test examples, judged at α = {alpha:.3g}"
    return Look(number, alpha, (said,))


def looks_after(subject: Subject, baseline: ReferenceReport | None) -> dict[str, int]:
    """Counts with this look included."""
    counts = dict((baseline.looks if baseline is not None else None) or {})
    key = data_key(subject.content)
    if key is not None:
        counts[key] = counts.get(key, 0) + 1
    return counts
