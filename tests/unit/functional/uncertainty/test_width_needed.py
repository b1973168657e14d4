"""The bound on the width of an interval of a drop, against the shortest interval that a linear program finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.optimize import linprog

from lightning_memaudit.functional.intervals import tango
from tests.helpers.crossed import HARD, NOISE, SEEDS, Cell, draw
from tests.helpers.width import TAIL, need, spread_of_models, tilts, unseen_flips, variances


def flips(n: int, lost: float, gained: float):
    """All numbers of flips each way with their probabilities."""
    b, c = np.array([(b, c) for b in range(n + 1) for c in range(n + 1 - b)]).T
    left = max(1 - lost - gained, 0.0)
    return b, c, np.nan_to_num(stats.multinomial.pmf(np.stack([b, c, n - b - c], axis=1), n, [lost, gained, left]))


def shortest(n: int, lost: float, gained: float, points: int = 20) -> float:
    """Least expected reach upwards of any bound at ``TAIL`` from flips of single models, tossing coins or not.

    For each drop, the rejection probabilities of all samples that are largest at the truth and at most ``TAIL`` under
    every law with that drop, of a fine grid of laws.
    """
    truth, (_, _, law) = lost - gained, flips(n, lost, gained)
    seen = law > 1e-12
    top = min(1.0, truth + 1 - TAIL ** (1 / n) + 6 * np.sqrt((lost + gained - truth**2) / n))
    reach = 0.0
    for drop in truth + (np.arange(points) + 0.5) / points * (top - truth):
        ways = np.concatenate([[0.0, gained], np.geomspace(1e-4, max((1 - drop) / 2, 2e-4), 25)])
        laws = np.array([flips(n, drop + c, c)[2][seen] for c in ways if drop + 2 * c < 1])
        best = linprog(-law[seen], A_ub=laws, b_ub=np.full(len(laws), TAIL), bounds=(0, 1))
        assert best.success
        reach += (1 + best.fun) * (top - truth) / points
    return reach


@pytest.mark.parametrize("n", [2, 10, 20])
def test_unseen_flips_are_all_there_is_without_a_flip(n) -> None:
    assert unseen_flips(n) == pytest.approx(
        integrate.quad(lambda p: 1 - TAIL / (1 - p) ** n, 0, 1 - TAIL ** (1 / n))[0], abs=1e-9
    )
    assert unseen_flips(n) == pytest.approx(shortest(n, 0.0, 0.0), rel=5e-3)


@pytest.mark.parametrize("n", [20, 50, 200])
def test_tango_without_a_flip_is_what_an_interval_takes_that_tosses_no_coin(n) -> None:
    assert tango(0, 0, n)[1] == pytest.approx(1 - TAIL ** (1 / n), rel=0.05)
    assert tango(0, 0, n)[1] <= 1.4 * unseen_flips(n)


@pytest.mark.parametrize("sign", [1, -1])
def test_tilts_come_near_the_shortest_interval_and_never_above_it(sign) -> None:
    cell = Cell(HARD, 0.95, 0.05, (1, 1), 12)
    base, treated = draw(cell, 40000, np.random.default_rng(0))
    lost, gained = float((base & ~treated).mean()), float((~base & treated).mean())
    error = np.sqrt((lost + gained - 0.05**2) / 12)
    fine, (near, missed) = (np.arange(2000) + 0.5) / 2000, tilts(cell, sign, float(error), samples=8000)
    bound = np.interp(fine, near, missed, right=0.0).mean()
    least = shortest(12, *((lost, gained) if sign > 0 else (gained, lost)))
    print(f"lost {lost:.3f}, gained {gained:.3f}: bound {bound:.4f}, linear program {least:.4f}")
    assert 0.93 * least <= bound <= 1.02 * least


def test_unknown_spread_takes_students_quantile_and_a_known_one_does_not() -> None:
    for models, share, least, most in ((3, 1.0, 3.0, 3.82), (3, 0.05, 1.9, 2.1), (30, 1.0, 1.95, 2.06)):
        steps, missed = spread_of_models((share,), (models - 1,))
        reach = missed.mean() * 12
        # t times the mean of the estimated standard error is what Student's interval takes.
        print(f"{models} models, share {share}: reach at least {reach:.2f} standard errors")
        assert steps[-1] < 12
        assert least <= reach <= most


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("law", [NOISE, SEEDS, HARD], ids=lambda law: law.name)
def test_variances_are_those_of_the_simulation(law, paired) -> None:
    cell = Cell(law, 0.8, 0.1, (4, 4) if paired else (4, 7), 25, paired)
    base, treated = (x.reshape(len(x), 4000, cell.n) for x in draw(cell, 4000, np.random.default_rng(1)))
    found = variances(cell)
    drop = (base.mean(axis=0) - treated.mean(axis=0)).mean(axis=1)
    assert drop.mean() == pytest.approx(0.1, abs=4 * np.sqrt(found.total / 4000))
    assert drop.var() == pytest.approx(found.total, rel=0.1)
    tables = [base.astype(float) - treated] if paired else [base, treated]
    for table, shown in zip(tables, found.shown, strict=True):
        means = table.mean(axis=2)  # of each model; what examples share is in all of them
        assert means.var(axis=0, ddof=1).mean() / len(table) == pytest.approx(shown, rel=0.1)


def test_need_is_at_least_each_of_its_parts() -> None:
    for cell in (Cell(NOISE, 0.99, 0.0, (3, 3), 20), Cell(HARD, 0.9, 0.03, (10, 10), 50, True)):
        cheap, full = need(cell, tilted=False), need(cell)
        assert full.width >= cheap.width >= max(cheap.normal, cheap.unseen) * (1 - 1e-2)
