"""How often a gate is wrong when the truth is at its margin: many gates at once, each judged by ``judge``."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lightning_memaudit.functional.uncertainty import OneSided, joined, take, two_way
from lightning_memaudit.gates.judge import judge
from lightning_memaudit.gates.judged_report import Subject
from lightning_memaudit.gates.policy.file import policy_of
from lightning_memaudit.gates.tables import Table
from lightning_memaudit.gates.verdicts import Verdict
from lightning_memaudit.record.estimates import NOTHING
from tests.helpers.crossed import Cell, draw

ALPHA = 0.05
DAY = dt.date(2027, 1, 15)
#: A true drop far below every margin here: the treated models are better.
FAR = {"accuracy": 0.6, "drop": -0.3}


@dataclass(frozen=True)
class Scenario:
    """Gates whose rows have a true drop at the margin (``cell.drop``), but for those that are far below it.

    Attributes:
        name: What it is called.
        cell: Law, accuracy, true drop, models and examples of each group.
        n_groups: Groups of an arm.
        n_rules: Rules, each on an arm of its own.
        n_at_margin: Groups of the first arm at the margin; None: all groups of all arms.
        shared: Whether groups of an arm share the effects of their models; else they are independent.
    """

    name: str
    cell: Cell
    n_groups: int
    n_rules: int = 1
    n_at_margin: int | None = None
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.name}, {self.n_rules} rules x {self.n_groups} groups, {self.cell}"


@dataclass(frozen=True)
class Errors:
    """Shares of gates, and of rows for comparison: what a gate without Holm would do."""

    false_fail: float
    false_pass: float
    uncorrected_fail: float
    inconclusive: float
    repeats: int

    @property
    def slack(self) -> float:
        """Three standard errors of a share of .05."""
        return 3 * float(np.sqrt(ALPHA * (1 - ALPHA) / self.repeats))


@dataclass(frozen=True)
class Found:
    """Estimates whose p-values at one margin were computed for all gates at once."""

    estimate: np.ndarray
    p: np.ndarray

    def p_value(self, margin):
        return self.p


@dataclass(frozen=True)
class Slice:
    """Evidence of one gate."""

    found: Found
    lower: np.ndarray
    upper: np.ndarray
    covers_models: None = None
    is_exact: bool = False

    @property
    def estimate(self):
        return self.found.estimate

    def bounds(self, alpha):
        assert alpha == ALPHA
        return self.lower, self.upper

    def needed(self, margin, alpha, rows):
        return [NOTHING] * len(rows)


def simulate(scenario: Scenario, repeats: int, *, seed: int = 0, outcomes: float = 8e6) -> Errors:
    """Judge ``repeats`` gates of fresh models and examples."""
    rng = np.random.default_rng([seed, scenario.n_groups, scenario.n_rules, scenario.cell.n])
    per_gate = sum(scenario.cell.n_models) * scenario.cell.n * scenario.n_groups * scenario.n_rules
    chunk = max(1, min(repeats, int(outcomes / per_gate)))
    parts = [_judged(scenario, min(chunk, repeats - start), rng) for start in range(0, repeats, chunk)]
    shares = np.concatenate(parts).mean(axis=0).tolist()
    return Errors(*shares, repeats)


def _judged(scenario: Scenario, repeats: int, rng: np.random.Generator) -> np.ndarray:
    n_rules, n_groups, margin = scenario.n_rules, scenario.n_groups, scenario.cell.drop
    found = _found(scenario, repeats, rng)
    down, up = found.half_widths(np.asarray(ALPHA))
    estimate, lower, upper = found.estimate, np.maximum(found.estimate - down, -1), np.minimum(found.estimate + up, 1)
    p = np.full(len(estimate), np.nan)
    above = np.flatnonzero(lower > margin)
    if len(above):
        p[above] = take(found, above).p_value(margin)
    figures = [part.reshape(repeats, n_rules, n_groups) for part in (estimate, lower, upper, p)]
    names = tuple(f"g={g}" for g in range(n_groups))
    arms = [f"arm{rule}" for rule in range(n_rules)]
    policy = policy_of(
        {"schema": 1, "rules": {arm: {"kind": "drop", "margin": margin, "treatments": [arm]} for arm in arms}}
    )
    content = {"impact": {"status": "ok", "arms": {arm: {"status": "ok"} for arm in arms}}}
    seen = []
    for gate in range(repeats):
        subject = Subject("simulated", content)
        for number, arm in enumerate(arms):
            own = [part[gate, number] for part in figures]
            subject.cache["impact", "drop", arm] = {"g": _table(names, scenario.cell.n, *own)}
        rows, n_tests = judge(policy, subject, None, alpha=ALPHA, today=DAY)
        assert len(rows) == n_tests == n_rules * n_groups
        verdicts = {row.found for row in rows}
        seen.append(
            (
                Verdict.FAIL in verdicts,
                verdicts == {Verdict.PASS},
                bool((figures[3][gate] < ALPHA).any()),
                Verdict.INCONCLUSIVE in verdicts and Verdict.FAIL not in verdicts,
            )
        )
    return np.array(seen, dtype=float)


def _table(names: tuple[str, ...], n: int, estimate: Any, lower: Any, upper: Any, p: Any) -> Table:
    size = len(names)
    nothing = (None,) * size
    return Table(names, (n,) * size, None, nothing, nothing, Slice(Found(estimate, p), lower, upper), np.arange(size))


def _found(scenario: Scenario, repeats: int, rng: np.random.Generator) -> OneSided:
    """Entries in the order gate, rule, group."""
    cell, shape = scenario.cell, (repeats, scenario.n_rules, scenario.n_groups)
    n_rows = int(np.prod(shape))
    if scenario.n_at_margin is None:
        n_draws = n_rows // scenario.n_groups if scenario.shared else n_rows
        return _drops(cell, n_draws, n_rows, rng)
    at_margin = np.zeros(shape, dtype=bool)
    at_margin[:, 0, : scenario.n_at_margin] = True
    n_at = int(at_margin.sum())
    parts = [_drops(cell, n_at, n_at, rng)]
    if n_at < n_rows:
        parts.append(_drops(replace(cell, **FAR), n_rows - n_at, n_rows - n_at, rng))
    place = np.empty(n_rows, dtype=np.int64)
    place[np.concatenate([np.flatnonzero(at_margin), np.flatnonzero(~at_margin)])] = np.arange(n_rows)
    return take(joined(parts), place)


def _drops(cell: Cell, n_draws: int, n_rows: int, rng: np.random.Generator) -> OneSided:
    base, treated = draw(replace(cell, n=cell.n * n_rows // n_draws), n_draws, rng)
    codes = np.repeat(np.arange(n_rows), cell.n)
    return OneSided(two_way([base, treated], (1.0, -1.0), codes, n_groups=n_rows, paired=cell.paired))
