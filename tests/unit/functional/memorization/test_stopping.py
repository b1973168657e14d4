"""Levels of the looks, the rules, and coverage of what is reported after optional stopping."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_memaudit.functional import intervals
from lightning_memaudit.functional.memorization import (
    _reliability as reliability,
)
from lightning_memaudit.functional.memorization import (
    _score as memorization,
)
from lightning_memaudit.functional.memorization import (
    _stopping as stopping,
)


def simulate(n_models: int, p_in, p_out, n: int, *, seed: int = 0):
    rng = np.random.default_rng(seed)
    mask = rng.random((n_models, n)) < 0.7
    return rng.random(mask.shape) < np.where(mask, p_in, p_out), mask


def test_levels_spend_exactly_alpha() -> None:
    for looks in ((50, 100, 200, 400), (10,), (30, 31)):
        levels = stopping.spending(looks, level=0.9)
        assert (1 - levels).sum() == pytest.approx(0.1)
        assert (np.diff(1 - levels) > 0).all() or looks == (30, 31)
    assert stopping.spending(torch.tensor([10]))[0] == pytest.approx(0.95)


LOOKS = (50, 100, 200, 400)


def missed_at_any_look(p_in, p_out, fraction, *, levels, pseudo_counts, repeats=40_000) -> float:
    """Share of audits in which some look misses: what an adversary gets who may stop whenever it suits."""
    rng = np.random.default_rng(0)
    added = np.diff(LOOKS, prepend=0)
    new_in = rng.binomial(added, fraction, (repeats, len(LOOKS)))
    right_in = rng.binomial(new_in, p_in).cumsum(1)
    right_out = rng.binomial(added - new_in, p_out).cumsum(1)
    n_in = new_in.cumsum(1)
    missed = np.zeros(repeats, bool)
    for j, look in enumerate(LOOKS):
        low, high = intervals.agresti_caffo(
            right_in[:, j], n_in[:, j], right_out[:, j], look - n_in[:, j], level=levels[j], pseudo_counts=pseudo_counts
        )
        missed |= (low > p_in - p_out + 1e-12) | (high < p_in - p_out - 1e-12)
    return float(missed.mean())


@pytest.mark.parametrize(("fraction", "least"), [(0.5, 0.95), (0.7, 0.95), (0.9, 0.946)])
def test_intervals_cover_whatever_stops_the_training(fraction, least) -> None:
    # At r = .9 one fixed look of the default interval covers .9456 in its worst cell; no rule over looks can do better.
    levels = stopping.spending(LOOKS)
    worst = 1.0
    for p_in, p_out in ((0.99, 0.74), (0.99, 0.5), (0.95, 0.5), (0.9, 0.65), (0.97, 0.05), (0.8, 0.5), (0.5, 0.5)):
        missed = missed_at_any_look(p_in, p_out, fraction, levels=levels, pseudo_counts="level")
        worst = min(worst, 1 - missed)
    print(f"optional stopping at r={fraction}: least coverage {worst:.4f}")
    assert worst >= least - 0.001  # the standard error of the simulation


def test_why_the_published_interval_and_uncorrected_levels_will_not_do() -> None:
    published = missed_at_any_look(0.99, 0.74, 0.7, levels=stopping.spending(LOOKS), pseudo_counts="one")
    uncorrected = missed_at_any_look(0.99, 0.74, 0.7, levels=[0.95] * 4, pseudo_counts="level")
    print(f"published interval {1 - published:.4f}, no spending {1 - uncorrected:.4f}")
    assert published > 0.052
    assert uncorrected > 0.10


def test_settled_share_is_a_plain_count() -> None:
    correct, mask = simulate(60, 0.95, np.linspace(0, 0.95, 40), 40)
    mask[:, 0] = True
    low, high = memorization.memorization_interval(correct, mask, 0.99, "agresti-caffo-level")
    expected = np.mean([low[i] > 0.3 or high[i] < 0.3 for i in range(1, 40)])
    assert stopping.settled_share(correct, mask, threshold=0.3, level=0.99) == pytest.approx(expected)
    assert np.isnan(stopping.settled_share(correct, np.ones_like(mask)))


def test_settled_uses_the_level_of_its_look() -> None:
    correct, mask = simulate(100, 0.95, np.linspace(0, 0.95, 60), 60)
    rule = stopping.Settled(looks=(50, 100, 200), share=0.5)
    look = stopping.reached(rule, correct, mask, 1)
    assert look.n_models == 100
    assert look.level == pytest.approx(1 - 0.05 * (0.5**3 - 0.25**3))
    assert look.value == stopping.settled_share(correct, mask, level=look.level)
    assert look.stop == (look.value >= 0.5)


def test_reliable_uses_the_step_up() -> None:
    correct, mask = simulate(100, 0.95, np.linspace(0, 0.95, 60), 60)
    look = stopping.reached(stopping.Reliable(looks=(100, 200)), torch.tensor(correct), mask, 0, seed=3)
    assert look.value == reliability.reliability(correct, mask, seed=3).spearman_brown
    assert look.stop
    assert not stopping.reached(stopping.Reliable(looks=(100,), target=0.999), correct, mask, 0).stop
