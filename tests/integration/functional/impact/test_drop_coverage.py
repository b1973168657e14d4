"""Coverage, one-sided misses and width of the default interval for random models and random examples.

A part of the grid that ``benchmarks/impact_coverage.py`` runs through; the laws are in ``tests/helpers/crossed.py``.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lightning_memaudit.functional.impact import accuracy_drop
from tests.helpers.crossed import HARD, MIXED, NOISE, SEEDS, Cell, draw, estimate, fare
from tests.helpers.width import need

REPEATS = 1500
MODERATE = [
    Cell(SEEDS, 0.6, 0.0, (3, 3), 20),
    Cell(SEEDS, 0.6, 0.1, (100, 3), 50),
    Cell(SEEDS, 0.6, 0.1, (10, 30), 200),
    Cell(NOISE, 0.6, 0.0, (3, 30), 50),
    Cell(HARD, 0.6, 0.1, (10, 10), 50, True),
    Cell(MIXED, 0.6, 0.1, (5, 100), 20),
    Cell(SEEDS, 0.6, 0.1, (100, 100), 20, True),
    Cell(SEEDS, 0.9, 0.0, (30, 3), 50),
    Cell(SEEDS, 0.9, 0.03, (100, 10), 50),
    Cell(SEEDS, 0.9, 0.1, (5, 5), 200, True),
    Cell(NOISE, 0.9, 0.1, (30, 30), 20),
    Cell(HARD, 0.9, 0.1, (10, 100), 20),
    Cell(HARD, 0.9, 0.1, (30, 30), 50, True),
    Cell(MIXED, 0.9, 0.03, (100, 100), 20, True),
    Cell(MIXED, 0.9, 0.0, (3, 3), 200, True),
]
RARE = [
    Cell(NOISE, 0.99, 0.0, (100, 3), 20),
    Cell(NOISE, 0.99, 0.0, (3, 100), 50),
    Cell(SEEDS, 0.99, 0.0, (10, 10), 50),
    Cell(MIXED, 0.99, 0.02, (30, 30), 50),
    Cell(SEEDS, 0.99, 0.02, (3, 3), 50),
    Cell(HARD, 0.99, 0.02, (10, 10), 200, True),
    Cell(HARD, 0.99, 0.04, (10, 10), 50),
    Cell(HARD, 0.99, 0.04, (100, 100), 20, True),
    Cell(HARD, 0.99, 0.04, (5, 30), 50),
    Cell(SEEDS, 0.99, 0.04, (30, 10), 200),
    Cell(MIXED, 0.99, 0.04, (100, 100), 20, True),
]


@pytest.mark.parametrize("cell", MODERATE + RARE, ids=str)
def test_interval_covers_and_is_no_wider_than_it_need_be(cell) -> None:
    found = fare(cell, REPEATS)
    # Without the costlier part of the bound: what an interval must reach is at least this.
    needed = need(cell, tilted=False)
    print(
        f"{cell}: coverage {found.coverage:.3f}, misses above {found.missed_above:.3f} and below "
        f"{found.missed_below:.3f}, reach {found.reach:.3f}, {found.reach / needed.normal:.2f} of the normal width and "
        f"{found.reach / needed.width:.2f} of the need, score form {found.score:.2f}"
    )
    assert found.coverage >= 0.94 - found.slack
    assert max(found.missed_above, found.missed_below) <= 0.06 + found.slack
    assert found.reach <= 1.5 * needed.width


@pytest.mark.parametrize("cell", [HARD, SEEDS], ids=lambda law: law.name)
def test_normal_form_misses_where_flips_are_rare(cell) -> None:
    plain = fare(Cell(cell, 0.99, 0.04, (10, 10), 50), REPEATS, form="normal")
    print(f"{cell.name}: normal form misses above {plain.missed_above:.3f}, covers {plain.coverage:.3f}")
    assert plain.missed_above > 0.09
    assert plain.coverage < 0.93


def rates(cell: Cell):
    """Coverage of two simpler intervals: Welch over models, and the paired t over examples."""
    base, treated = (x.reshape(len(x), REPEATS, cell.n) for x in draw(cell, REPEATS, np.random.default_rng(0)))
    models = [x.mean(axis=2) for x in (base, treated)]
    found = stats.ttest_ind(*models, axis=0, equal_var=False).confidence_interval(0.95)
    d = base.mean(axis=0) - treated.mean(axis=0)
    half = stats.t.isf(0.025, cell.n - 1) * d.std(axis=1, ddof=1) / np.sqrt(cell.n)
    over_models = ((found.low <= cell.drop) & (cell.drop <= found.high)).mean()
    return over_models, (np.abs(d.mean(axis=1) - cell.drop) <= half).mean()


def test_simpler_intervals_do_not_cover() -> None:
    over_models, _ = rates(Cell(HARD, 0.6, 0.1, (30, 30), 50))
    _, over_examples = rates(Cell(SEEDS, 0.6, 0.1, (5, 5), 200))
    print(f"Welch over models covers {over_models:.3f}, paired t over examples {over_examples:.3f}")
    assert over_models < 0.85
    assert over_examples < 0.91
    more, _ = rates(Cell(HARD, 0.6, 0.1, (100, 100), 50))
    assert more < over_models


def test_votes_have_another_truth() -> None:
    # Tango's interval on majority votes is for the drop of the vote, and misses that of the accuracy.
    cell = Cell(NOISE, 0.99, 0.04, (10, 10), 200)
    base, treated = draw(cell, 300, np.random.default_rng(0))
    codes = np.repeat(np.arange(300), cell.n)
    votes = accuracy_drop(base, treated, codes, interval="tango")
    assert ((votes.low <= cell.drop) & (cell.drop <= votes.high)).mean() < 0.1


def test_bootstrap_is_wider() -> None:
    cell = Cell(SEEDS, 0.6, 0.1, (10, 10), 50)
    base, treated = draw(cell, 100, np.random.default_rng(0))
    codes = np.repeat(np.arange(100), cell.n)
    boot = accuracy_drop(base, treated, codes, interval="bootstrap", n_resamples=400)
    two_way = accuracy_drop(base, treated, codes)
    normal = stats.norm.isf(0.025) / stats.t.isf(0.025, 9)
    ratio = (boot.high - boot.low).mean() / ((two_way.high - two_way.low).mean() * normal)
    print(f"bootstrap is {ratio:.2f} times as wide for the same quantile")
    assert ratio > 1.15


@pytest.mark.parametrize("paired", [False, True])
def test_excess_covers(paired) -> None:
    rng = np.random.default_rng(0)
    repeats, hits = 100, []
    cells = [Cell(SEEDS, 0.9, drop, (10, 10), n, paired) for drop, n in ((0.1, 30), (0.0, 120))]
    parts = [[x.reshape(10, repeats, -1) for x in draw(cell, repeats, rng)] for cell in cells]
    truth = 0.1 - 0.1 * 30 / 150
    for r in range(repeats):
        arms = [np.concatenate([part[a][:, r] for part in parts], axis=1) for a in (0, 1)]
        found = accuracy_drop(*arms, np.repeat([0, 1], [30, 120]), paired=paired)
        hits.append(found.excess_low[0] <= truth <= found.excess_high[0])
    print(f"paired={paired}: coverage of the excess {np.mean(hits):.3f}")
    assert np.mean(hits) >= 0.94 - 3 * np.sqrt(0.05 * 0.95 / repeats)


def test_the_public_function_gives_the_interval_that_is_simulated() -> None:
    cell = Cell(SEEDS, 0.9, 0.03, (5, 10), 50)
    found = estimate(cell, 40, np.random.default_rng(1))
    base, treated = draw(cell, 40, np.random.default_rng(1))
    public = accuracy_drop(base, treated, np.repeat(np.arange(40), 50))
    low, high = found.interval()
    assert (public.low == low).all()
    assert (public.high == high).all()
    assert set(public.method) <= {"tango", "two-way", "two-way-skewed"}
