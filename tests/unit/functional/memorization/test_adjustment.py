"""Lin's adjustment against least squares for each example, and its effect in simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_memaudit.functional import memorization


def simulate(n_models: int, n: int, seed: int, *, strength: float = 0.3):
    rng = np.random.default_rng(seed)
    mask = rng.random((n_models, n)) < 0.6
    quality = rng.uniform(-strength, strength, n_models)
    correct = rng.random(mask.shape) < np.where(mask, 0.65, 0.35) + quality[:, None]
    return correct, mask, quality


def test_score_and_gain_equal_least_squares_with_interaction() -> None:
    correct, mask, quality = simulate(40, 15, 0)
    found = memorization.adjusted_memorization_score(correct, mask, torch.tensor(quality))
    x = quality - quality.mean()
    ratios = []
    for i in range(15):
        m, y = mask[:, i].astype(float), correct[:, i].astype(float)
        design = np.stack([np.ones(40), m, x, m * x], axis=1)
        coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
        assert found.score[i] == pytest.approx(coefficients[1], abs=1e-9)
        residual, raw, rest = y - design @ coefficients, 0.0, 0.0
        for arm in (mask[:, i], ~mask[:, i]):
            size = arm.sum()
            raw += y[arm].var(ddof=1) / size
            # Variance of the line at the mean covariate, from the usual covariance of least squares.
            line = np.stack([np.ones(size), x[arm]], axis=1)
            rest += (residual[arm] ** 2).sum() / (size - 2) * np.linalg.inv(line.T @ line)[0, 0]
        ratios.append(rest / raw)
    assert found.gain == pytest.approx(1 - np.mean(ratios), abs=1e-9)


def test_variance_falls_without_bias() -> None:
    raw, adjusted, gains = [], [], []
    for seed in range(150):
        correct, mask, quality = simulate(60, 20, seed)
        raw.append(memorization.memorization_score(correct, mask).score)
        found = memorization.adjusted_memorization_score(correct, mask, quality)
        adjusted.append(found.score)
        gains.append(found.gain)
    realized = 1 - np.var(adjusted, axis=0).mean() / np.var(raw, axis=0).mean()
    print(
        f"adjustment: mean {np.mean(adjusted):.3f} (truth .3), gain said {np.mean(gains):.3f}, realized {realized:.3f}"
    )
    assert np.mean(adjusted) == pytest.approx(0.3, abs=0.01)
    assert realized > 0.05
    assert np.mean(gains) == pytest.approx(realized, abs=0.02)


def test_useless_covariate_gains_about_nothing() -> None:
    correct, mask, _ = simulate(100, 200, 1, strength=0.0)
    noise = np.random.default_rng(2).random(100)
    assert -0.05 < memorization.adjusted_memorization_score(correct, mask, noise).gain < 0.01


def test_small_arms_and_constant_covariates_are_left_alone() -> None:
    correct, mask, quality = simulate(12, 10, 3)
    mask[:, 0], mask[:, 1] = True, True
    mask[:2, 1] = False
    raw = memorization.memorization_score(correct, mask).score
    constant = memorization.adjusted_memorization_score(correct, mask, np.ones(12))
    np.testing.assert_allclose(constant.score, raw, atol=1e-12)
    assert constant.gain == pytest.approx(0.0)
    found = memorization.adjusted_memorization_score(correct, mask, quality)
    assert np.isnan(found.score[0])
    assert np.isfinite(found.score[1:]).all()


def test_order_of_models_and_shift_of_the_covariate_are_irrelevant() -> None:
    correct, mask, quality = simulate(30, 8, 4)
    found = memorization.adjusted_memorization_score(correct, mask, quality)
    order = np.random.default_rng(0).permutation(30)
    other = memorization.adjusted_memorization_score(correct[order], mask[order], 5 + 3 * quality[order])
    np.testing.assert_allclose(other.score, found.score, atol=1e-10)
    flipped = memorization.adjusted_memorization_score(correct, ~mask, quality)
    np.testing.assert_allclose(flipped.score, -found.score, atol=1e-10)


def test_all_unanimous_is_nan_gain() -> None:
    mask = np.repeat([[True], [False]], 4, axis=0)
    found = memorization.adjusted_memorization_score(mask, mask, np.arange(8))
    assert found.score.tolist() == pytest.approx([1.0])
    assert np.isnan(found.gain)
