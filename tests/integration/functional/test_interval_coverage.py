"""Exact coverage of the intervals over the law of the subset designs: sums over binomial laws, no simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lightning_memaudit.functional import intervals

GRID = np.array([0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99])


def window(n: int, p: float, tail: float = 1e-7) -> np.ndarray:
    return np.arange(int(stats.binom.ppf(tail, n, p)), int(stats.binom.isf(tail, n, p)) + 1)


def coverage(method, p_in: np.ndarray, p_out: np.ndarray, n_models: int, fraction: float, tail: float) -> np.ndarray:
    """Coverage for every pair of probabilities, averaged over n_in ~ Bin(M, r) with both arms non-empty."""
    sizes = window(n_models, fraction, tail)
    sizes = sizes[(sizes > 0) & (sizes < n_models)]
    weight = stats.binom.pmf(sizes, n_models, fraction)
    total = np.zeros((len(p_in), len(p_out)))
    for n_in, share in zip(sizes, weight / weight.sum(), strict=True):
        n_out = n_models - n_in
        k_in, k_out = np.arange(n_in + 1), np.arange(n_out + 1)
        low, high = method(k_in[:, None], n_in, k_out[None, :], n_out)
        law_in = stats.binom.pmf(k_in, n_in, p_in[:, None])
        law_out = stats.binom.pmf(k_out, n_out, p_out[:, None])
        for a, p in enumerate(p_in):
            rows = law_in[a] > 1e-9
            for b, q in enumerate(p_out):
                columns = law_out[b] > 1e-9
                low_part, high_part = low[rows][:, columns], high[rows][:, columns]
                hit = (low_part <= p - q + 1e-12) & (p - q - 1e-12 <= high_part)
                total[a, b] += share * (law_in[a][rows] @ hit @ law_out[b][columns])
    return total


def test_default_interval_covers_over_the_whole_grid() -> None:
    cells = np.concatenate(
        [
            coverage(intervals.agresti_caffo, GRID, GRID, n_models, fraction, 1e-5 if n_models == 400 else 1e-7).ravel()
            for n_models in (50, 100, 400)
            for fraction in (0.5, 0.7, 0.9)
        ]
    )
    print(f"Agresti-Caffo: min {cells.min():.4f}, below .94: {(cells < 0.94).sum()} of {cells.size}")
    assert cells.size == 441
    assert cells.min() >= 0.935
    assert (cells < 0.94).mean() <= 0.01


def test_wald_fails_exactly_where_memorization_happens() -> None:
    one, two = np.array([0.99]), np.array([0.02])
    assert coverage(intervals.wald_difference, one, two, 50, 0.5, 1e-9)[0, 0] == pytest.approx(0.53, abs=0.01)
    assert coverage(intervals.wald_difference, one, two, 200, 0.7, 1e-9)[0, 0] == pytest.approx(0.82, abs=0.01)
    assert coverage(intervals.agresti_caffo, one, two, 50, 0.5, 1e-9)[0, 0] >= 0.94


def test_newcombe_covers_less_than_the_default() -> None:
    cells = coverage(intervals.newcombe, GRID, GRID, 50, 0.5, 1e-7)
    print(f"Newcombe at M=50, r=.5: min {cells.min():.4f}")
    assert cells.min() == pytest.approx(0.9154, abs=5e-4)


def test_default_interval_with_fixed_arms_is_slightly_liberal() -> None:
    cells = []
    for n_in, n_out in ((25, 25), (35, 15), (45, 5), (50, 50), (70, 30), (90, 10), (200, 200), (280, 120), (360, 40)):
        k_in, k_out = np.arange(n_in + 1), np.arange(n_out + 1)
        low, high = intervals.agresti_caffo(k_in[:, None], n_in, k_out[None, :], n_out)
        for p in GRID:
            for q in GRID:
                hit = (low <= p - q + 1e-12) & (p - q - 1e-12 <= high)
                cells.append(stats.binom.pmf(k_in, n_in, p) @ hit @ stats.binom.pmf(k_out, n_out, q))
    assert min(cells) == pytest.approx(0.9168, abs=5e-4)
    assert (np.array(cells) < 0.94).sum() == 19


@pytest.mark.parametrize(("alpha", "beta"), [(5.0, 0.3), (1.0, 1.0), (0.3, 5.0), (40.0, 40.0)])
def test_welch_floor_covers_for_fractions(alpha, beta) -> None:
    rng = np.random.default_rng(0)
    truth = alpha / (alpha + beta) - 0.2
    hits = {}
    for n_in, n_out in ((5, 5), (35, 15), (10, 3)):
        first = rng.beta(alpha, beta, size=(n_in, 4000))
        second = rng.beta(1.0, 4.0, size=(n_out, 4000))
        low, high = intervals.welch_floor(first.mean(0), first.var(0), n_in, second.mean(0), second.var(0), n_out)
        hits[n_in, n_out] = ((low <= truth) & (truth <= high)).mean()
    print(f"Welch with floor, Beta({alpha}, {beta}): {hits}")
    assert min(hits.values()) >= 0.94


def test_welch_floor_covers_for_zeros_and_ones() -> None:
    rng = np.random.default_rng(1)
    for p, q in ((0.99, 0.02), (0.9, 0.5), (0.5, 0.5)):
        first, second = rng.binomial(35, p, 20000) / 35, rng.binomial(15, q, 20000) / 15
        low, high = intervals.welch_floor(first, first * (1 - first), 35, second, second * (1 - second), 15)
        assert ((low <= p - q) & (p - q <= high)).mean() >= 0.94
