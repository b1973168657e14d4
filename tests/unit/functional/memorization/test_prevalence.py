"""Prevalence: counts against plain counting, the deconvolution against known mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_memaudit.functional import memorization
from lightning_memaudit.functional.memorization import _prevalence as prevalence


def simulate(n_models: int, p_in, p_out, n: int, *, seed: int = 0, fraction: float = 0.7):
    rng = np.random.default_rng(seed)
    mask = rng.random((n_models, n)) < fraction
    return rng.random(mask.shape) < np.where(mask, p_in, p_out), mask


@pytest.mark.parametrize(("n_models", "naive"), [(50, 0.29), (100, 0.22), (200, 0.13)])
def test_everything_just_below_the_threshold(n_models, naive) -> None:
    correct, mask = simulate(n_models, 0.97, 0.78, 2000)
    found = prevalence.prevalence(correct, mask, n_bootstrap=0)
    print(f"mem=.19, tau=.25, M={n_models}: naive {found.naive.share:.3f}, deconvolved {found.deconvolved.share:.4f}")
    assert found.naive.share == pytest.approx(naive, abs=0.04)
    assert found.deconvolved.share < 0.05
    assert found.deconvolved.share < found.naive.share / 4


@pytest.mark.parametrize("n_models", [50, 100])
def test_separated_mixture_is_recovered(n_models) -> None:
    memorized = np.arange(1000) < 300
    correct, mask = simulate(n_models, 0.97, np.where(memorized, 0.3, 0.85), 1000, seed=1)
    found = prevalence.prevalence(correct, mask, n_bootstrap=20)
    print(f"30 % memorized, M={n_models}: naive {found.naive.share:.3f}, deconvolved {found.deconvolved.share:.3f}")
    assert found.deconvolved.share == pytest.approx(0.3, abs=0.02)
    assert found.deconvolved.low < 0.3 < found.deconvolved.high
    assert 0 < found.deconvolved.standard_error < 0.05
    assert found.naive.low < found.naive.share < found.naive.high


def test_counts_are_plain_counts_of_intervals() -> None:
    correct, mask = simulate(40, 0.9, np.linspace(0, 1, 80), 80, seed=2)
    mask[:, :3] = True
    found = prevalence.prevalence(torch.tensor(correct), torch.tensor(mask), n_bootstrap=0, threshold=0.3)
    low, high = memorization.memorization_interval(correct, mask)
    score = memorization.memorization_score(correct, mask).score
    assert found.n_examples == 80
    assert found.n_estimable == 77
    assert found.above.count == sum(bool(x >= 0.3) for x in low)
    assert found.below.count == sum(bool(x < 0.3) for x in high)
    assert found.naive.count == sum(bool(x >= 0.3) for x in score)
    assert found.above.share + found.below.share + found.undecided.share == pytest.approx(1.0)
    assert found.undecided.count == 77 - found.above.count - found.below.count
    assert found.deconvolved.count == pytest.approx(found.deconvolved.share * 77)
    assert np.isnan(found.naive.standard_error)


def test_model_order_is_irrelevant() -> None:
    correct, mask = simulate(30, 0.9, np.linspace(0, 1, 50), 50, seed=3)
    order = np.random.default_rng(0).permutation(30)
    first = prevalence.prevalence(correct, mask, n_bootstrap=0)
    second = prevalence.prevalence(correct[order], mask[order], n_bootstrap=0)
    assert repr(second) == repr(first)


def test_em_never_lowers_the_likelihood_and_weights_sum_to_one() -> None:
    rng = np.random.default_rng(4)
    n_in, n_out = np.full(300, 20.0), np.full(300, 10.0)
    k_in, k_out = rng.binomial(20, 0.8, 300).astype(float), rng.binomial(10, rng.uniform(0, 1, 300)).astype(float)
    values = []
    for steps in (1, 2, 5, 20, 100):
        fit = prevalence.fit_mixture(k_in, n_in, k_out, n_out, threshold=0.25, max_iterations=steps, tolerance=-1.0)
        assert fit.weights.sum() == pytest.approx(1.0)
        total = 0.0
        for a, b in zip(k_in, k_out, strict=True):
            first = fit.grid**a * (1 - fit.grid) ** (20 - a)
            second = fit.grid**b * (1 - fit.grid) ** (10 - b)
            total += np.log(first @ fit.weights @ second)
        values.append(total)
    assert values == sorted(values)


@pytest.mark.parametrize("threshold", [0.25, 0.1, 0.5, 0.15, 1 / 3, 0.9])
def test_threshold_is_never_a_grid_difference(threshold) -> None:
    steps = prevalence.grid_steps(threshold)
    assert np.abs(threshold * steps - np.arange(steps + 1)).min() > 0.3


def test_a_cell_at_the_threshold_counts_half() -> None:
    weights = np.array([[0.0, 0.0], [1.0, 0.0]])
    mixture = prevalence.Mixture(np.array([0.5, 0.75]), weights)
    assert (mixture.share(0.25), mixture.share(0.2), mixture.share(0.3)) == (0.5, 1.0, 0.0)


def test_fractions_and_empty_arms_are_nan_with_a_reason() -> None:
    correct, mask = simulate(30, 0.9, 0.3, 20)
    found = prevalence.prevalence(correct * 0.5, mask, n_bootstrap=5)
    assert np.isnan(found.deconvolved.share)
    assert "fractions" in found.reason
    assert found.interval_method == "welch-floor"
    assert np.isfinite([found.naive.share, found.naive.standard_error]).all()
    nothing = prevalence.prevalence(correct, np.ones_like(mask))
    assert nothing.n_estimable == 0
    assert np.isnan(
        [nothing.naive.share, nothing.above.share, nothing.deconvolved.share, nothing.naive.standard_error]
    ).all()
    assert "both in and out" in nothing.reason


def test_blocks_are_resampled_whole() -> None:
    rng = np.random.default_rng(5)
    half = rng.random((20, 200)) < 0.5
    mask = np.stack([half, ~half], axis=1).reshape(40, 200)
    correct = rng.random(mask.shape) < np.where(mask, 0.9, 0.4)
    alone = prevalence.prevalence(correct, mask, n_bootstrap=10)
    together = prevalence.prevalence(correct, mask, n_bootstrap=10, blocks=np.arange(40) // 2)
    assert together.naive.share == alone.naive.share
    assert together.naive.standard_error != alone.naive.standard_error
