"""Verdicts: one for each rule, treatment and group, and what they make of the build."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from lightning_memaudit.gates.wording import bound, signed, value
from lightning_memaudit.record.estimates import NOTHING, Needed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lightning_memaudit.gates.policy.policy import Policy, Rule, Waiver

__all__ = ["EXIT_CODES", "GateResult", "Row", "Verdict", "counts"]


class Verdict(Enum):
    """What is said of one group by one rule."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    WAIVED = "waived"


#: Exit codes by effect, the first that applies.
EXIT_CODES = {"error": 4, "fail": 1, "inconclusive": 3}
_UNDECIDED = {"fail": "inconclusive", "warn": "warn", "pass": "none"}


@dataclass(frozen=True, slots=True)
class Row:
    """One rule on one group of one arm. Figures are None where they are not known.

    Attributes:
        rule: The rule.
        treatment: The arm; None for a rule on the baseline's memorization.
        group: ``grouping=name``, ``overall``, or None where the rule is not about groups.
        found: What is said, waivers aside.
        n: Examples in the group.
        n_models: Models of the smaller arm.
        value: The estimate, as people read it (an accuracy, not an error rate).
        lower: One-sided lower bound of it at ``alpha``.
        upper: One-sided upper bound.
        alpha: One-sided error of each bound, and the level at which p-values are judged.
        p: p-value of H0: the margin is kept. None where it is at least ``alpha``, or nothing was sampled.
        p_adjusted: The same by Holm over all rows of the policy.
        is_exact: Whether nothing was sampled.
        needed: What would decide an undecided row.
        problem: What is wrong, where something is missing.
        doubt: Why the row cannot pass, although its bound would.
        covers_models: Whether the bounds allow for the choice of models; None where the question does not arise.
        waiver: The waiver that fits, expired or not.
        is_expired: Whether that has expired.
    """

    rule: Rule
    treatment: str | None
    group: str | None
    found: Verdict
    alpha: float
    n: int | None = None
    n_models: int | None = None
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    is_exact: bool = False
    needed: Needed = NOTHING
    problem: str | None = None
    doubt: str | None = None
    covers_models: bool | None = None
    waiver: Waiver | None = None
    is_expired: bool = False

    @property
    def verdict(self) -> Verdict:
        """What is said; an error is never waived."""
        may_be_waived = self.found in (Verdict.FAIL, Verdict.INCONCLUSIVE)
        return Verdict.WAIVED if may_be_waived and self.waiver is not None and not self.is_expired else self.found

    @property
    def effect(self) -> str:
        """What the row does to the build: ``error``, ``fail``, ``inconclusive``, ``warn`` or ``none``."""
        verdict = self.verdict
        if verdict in (Verdict.PASS, Verdict.WAIVED):
            return "none"
        if self.rule.informational:
            return "warn"
        return _UNDECIDED[self.rule.on_inconclusive] if verdict is Verdict.INCONCLUSIVE else str(verdict.value)

    @property
    def place(self) -> str:
        """Treatment and group in one name."""
        return " · ".join(part for part in (self.treatment, self.group) if part) or "–"

    @property
    def is_small(self) -> bool:
        """Whether the group has too few examples for the rule to judge it."""
        return not self.is_exact and self.n is not None and self.n < self.rule.min_n

    @property
    def message(self) -> str:
        """What was found against what is allowed, and why that is the verdict."""
        parts = [part for part in (self._figures(), self.note) if part]
        return ". ".join(parts)

    @property
    def note(self) -> str:
        """Why, beyond the figures."""
        notes = [self.problem or self._reason()]
        if self.covers_models is False and self.problem is None:
            notes.append("One model an arm: seed variance is not covered")
        if self.waiver is not None and self.found is not Verdict.PASS:
            day = self.waiver.expires.isoformat()
            if self.found is Verdict.ERROR:
                notes.append("An error is not waived")
            else:
                notes.append(
                    f"The waiver expired on {day}" if self.is_expired else f"Waived until {day}: {self.waiver.reason}"
                )
        return ". ".join(note for note in notes if note)

    def _figures(self) -> str:
        if self.problem is not None:
            return ""
        unit = self.rule.kind.unit
        allowed = f"{self.rule.kind.direction} {value(self.rule.margin, unit)} is allowed"
        if self.is_exact:
            return f"{value(self.value, unit)}; {allowed}"
        if self.found in (Verdict.PASS, Verdict.FAIL):
            is_upper = (self.rule.kind.direction == "at most") == (self.found is Verdict.PASS)
            end = bound(self.upper if is_upper else self.lower, unit, self.alpha, is_upper=is_upper)
            return f"{signed(self.value, unit)}, {end}; {allowed}"
        ends = f"between {signed(self.lower, unit)} and {signed(self.upper, unit)}"
        return f"{signed(self.value, unit)}, {ends}; {allowed}"

    def _reason(self) -> str:
        if self.found is Verdict.FAIL:
            return "" if self.p_adjusted is None else f"p = {self.p_adjusted:.2g} after Holm"
        if self.found is not Verdict.INCONCLUSIVE:
            return ""
        if self.is_small:
            return f"{self.n} examples are too few to say: the rule asks for min_n = {self.rule.min_n}"
        if self.doubt:
            return f"It cannot pass: {self.doubt}"
        if self.p_adjusted is not None:
            p = f"p = {self.p_adjusted:.2g} after Holm"
            return f"Past the margin by itself, but not beyond chance among all rows ({p})"
        words = self.needed.words()
        return words[0].upper() + words[1:]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        kind, waiver = self.rule.kind, self.waiver
        return {
            "rule": self.rule.name,
            "kind": kind.name,
            "treatment": self.treatment,
            "group": self.group,
            "n": self.n,
            "n_models": self.n_models,
            "value": self.value,
            "lower": self.lower,
            "upper": self.upper,
            "margin": self.rule.margin,
            "direction": kind.direction,
            "alpha": self.alpha,
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "verdict": self.verdict.value,
            "found": self.found.value,
            "effect": self.effect,
            "informational": self.rule.informational,
            "on_inconclusive": self.rule.on_inconclusive,
            "message": self.message,
            "needed": {"n": self.needed.n, "models": self.needed.models, "factor": _finite(self.needed.factor)},
            "covers_models": self.covers_models,
            "waiver": None
            if waiver is None
            else {"reason": waiver.reason, "expires": waiver.expires.isoformat(), "is_expired": self.is_expired},
        }


@dataclass(frozen=True, slots=True)
class GateResult:
    """All verdicts of a policy.

    Attributes:
        policy: The policy.
        rows: The verdicts, in the order of the rules.
        source: What was judged.
        baseline: What it was compared with; None without.
        alpha: Level of this look.
        look: Number of this look at the test examples; None where nobody counts.
        n_tests: Rows over which p-values are adjusted.
        warnings: What a reader must know that belongs to no row.
    """

    policy: Policy
    rows: tuple[Row, ...]
    source: str
    baseline: str | None
    alpha: float
    look: int | None
    n_tests: int
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """4 for an error, else 1 for a fail, else 3 for an undecided row that may not pass, else 0."""
        effects = {row.effect for row in self.rows}
        return next((code for effect, code in EXIT_CODES.items() if effect in effects), 0)

    @property
    def passed(self) -> bool:
        """Whether the build may go on."""
        return self.exit_code == 0

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by verdict, all five named."""
        return counts(self.rows)

    def only(self, rules: Iterable[str]) -> GateResult:
        """The verdicts of some rules; those of the others are left out, and nothing is judged anew."""
        names = set(rules)
        return replace(self, rows=tuple(row for row in self.rows if row.rule.name in names))

    def by_rule(self) -> dict[str, tuple[Row, ...]]:
        """Rows by rule, in the order of the policy."""
        parts: dict[str, list[Row]] = {}
        for row in self.rows:
            parts.setdefault(row.rule.name, []).append(row)
        return {name: tuple(rows) for name, rows in parts.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "schema": 1,
            "exit_code": self.exit_code,
            "passed": self.passed,
            "counts": self.counts,
            "source": self.source,
            "baseline": self.baseline,
            "policy": self.policy.path,
            "alpha": self.alpha,
            "look": self.look,
            "n_tests": self.n_tests,
            "warnings": list(self.warnings),
            "rows": [row.to_dict() for row in self.rows],
        }


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else number


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Number of rows by verdict."""
    seen = Counter(row.verdict for row in rows)
    return {str(verdict.value): seen[verdict] for verdict in Verdict}
