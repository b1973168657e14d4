"""Clipping and noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lightning_memaudit.functional.impact import accuracy_drop, decompose_drop
from lightning_memaudit.functional.intervals import tango


def draw(repeats: int, models: int, n: int, accuracies, *, paired: bool, seed: int = 0):
    """Three arms whose models share their quality when paired, and whose examples share their difficulty."""
    rng = np.random.default_rng(seed)
    shape = (models, repeats, n)
    hard = rng.standard_normal((repeats, n)) * 0.7
    quality = rng.standard_normal((models, repeats, 1)) * 0.1
    arms = []
    for p in accuracies:
        own = quality if paired else rng.standard_normal((models, repeats, 1)) * 0.1
        rest = rng.standard_normal(shape) * np.sqrt(0.5)
        arms.append((hard + own + rest < stats.norm.ppf(p)).reshape(models, -1))
    return arms, np.repeat(np.arange(repeats), n)


def test_parts_add_up_and_are_the_drops() -> None:
    arms, codes = draw(4, 5, 60, (0.9, 0.8, 0.6), paired=False)
    found = decompose_drop(*arms, codes)
    assert found.clipping.drop + found.noise.drop == pytest.approx(found.total.drop)
    assert found.difference == pytest.approx(found.clipping.drop - found.noise.drop)
    assert found.noise.low == pytest.approx(accuracy_drop(arms[1], arms[2], codes).low)
    assert (found.difference_low < found.difference).all()
    assert (found.difference < found.difference_high).all()


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("models", "n", "accuracies"), [(5, 50, (0.9, 0.8, 0.6)), (20, 40, (0.98, 0.9, 0.88))])
def test_interval_of_the_difference_covers(paired, models, n, accuracies) -> None:
    repeats = 1500
    arms, codes = draw(repeats, models, n, accuracies, paired=paired)
    found = decompose_drop(*arms, codes, paired=paired)
    p, q, r = accuracies
    # The latent variance is .7² + .1² + .5 = 1, so that accuracies are as asked.
    for part, truth in ((found.clipping, p - q), (found.noise, q - r), (found.total, p - r)):
        assert ((part.low <= truth) & (truth <= part.high)).mean() >= 0.94 - 0.017
    truth = p - 2 * q + r
    coverage = ((found.difference_low <= truth) & (truth <= found.difference_high)).mean()
    print(f"K={models} n={n} paired={paired}: coverage of clipping minus noise {coverage:.3f}")
    assert coverage >= 0.94 - 0.017


def test_no_change_is_not_no_uncertainty() -> None:
    found = decompose_drop(*(np.ones((3, 50)),) * 3, np.zeros(50, dtype=int))
    low, high = tango(0, 0, 50)
    assert [found.difference_low[0], found.difference_high[0]] == pytest.approx([2 * low, 2 * high])
    assert found.clipping.low[0] == pytest.approx(low)


def test_an_example_that_one_arm_lacks_is_in_no_part() -> None:
    clip = np.ones((2, 6))
    clip[:, 0] = np.nan
    base = np.ones((2, 6))
    base[:, 0] = 0
    found = decompose_drop(base, clip, np.zeros((2, 6)), [0, 0, 0, 1, 1, 1])
    for part in (found.total, found.clipping, found.noise):
        assert part.n.tolist() == [2, 3]
        assert part.n_missing.tolist() == [1, 0]
    assert found.total.drop.tolist() == [1, 1]
