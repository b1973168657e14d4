"""Policies: what a build is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from lightning_memaudit.gates.rules.base import RuleKind

__all__ = ["Looks", "OnInconclusive", "Policy", "Rule", "Waiver"]

OnInconclusive = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Waiver:
    """A finding that somebody answers for until a date.

    Attributes:
        reason: Why it may stand.
        expires: The last day on which it holds.
        groups: Groups that it is about.
        treatments: Arms that it is about.
    """

    reason: str
    expires: dt.date
    groups: tuple[str, ...] = ("*",)
    treatments: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy.

    Attributes:
        name: Its name.
        kind: What is judged, with the options of its kind.
        margin: What is allowed; any finite number.
        treatments: Arms, by name or pattern; empty where the kind found none to choose.
        groups: Groups, by ``grouping=name``, pattern, ``overall`` or ``memorization=…``.
        exclude: Groups that are left out.
        min_n: Groups with fewer examples are inconclusive, whatever their figures.
        on_inconclusive: What an undecided row does to the build.
        informational: Whether the rule is shown and changes no exit code.
        reason: Why the rule exists.
        cross_fitted: Whether groups made from memorization scores are from other models than those judged.
        waivers: Findings that somebody answers for.
    """

    name: str
    kind: RuleKind
    margin: float
    treatments: tuple[str, ...]
    groups: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    min_n: int = 1
    on_inconclusive: OnInconclusive = "warn"
    informational: bool = False
    reason: str = ""
    cross_fitted: bool = False
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True, slots=True)
class Looks:
    """How α is shared among repeated looks at one test set.

    Look k of K planned ones spends ``α ((k / K)^ρ − ((k − 1) / K)^ρ)`` (Kim and DeMets 1987, power family), so that all
    looks together err with probability α at most (union bound).

    Attributes:
        planned: K.
        rho: ρ; 1 shares evenly, more leaves more for late looks.
    """

    planned: int
    rho: float = 1.0

    def alpha(self, alpha: float, look: int) -> float:
        """What look number ``look`` (from 1) may spend; 0 beyond the plan.

        Example:
            >>> [round(Looks(4).alpha(0.05, look), 4) for look in (1, 4, 5)]
            [0.0125, 0.0125, 0.0]
        """
        if look > self.planned:
            return 0.0
        shares = [(count / self.planned) ** self.rho for count in (look - 1, look)]
        return float(alpha * (shares[1] - shares[0]))


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules, and what holds for all.

    Attributes:
        rules: The rules, in the order of the file.
        alpha: One-sided error of bounds, and probability that any fail of a gate is wrong.
        looks: How α is shared among looks; None does not.
        path: The file; None for a mapping.
        lines: Line of each rule in the file.
    """

    rules: tuple[Rule, ...]
    alpha: float = 0.05
    looks: Looks | None = None
    path: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
