"""Split-half reliability against the truth in simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_memaudit.functional import memorization
from lightning_memaudit.functional.memorization import _reliability as reliability


def simulate(n_models: int, mem: np.ndarray, rng, *, fraction: float = 0.7):
    mask = rng.random((n_models, len(mem))) < fraction
    return rng.random(mask.shape) < np.where(mask, 0.5 + mem / 2, 0.5 - mem / 2), mask


def test_step_up_predicts_the_correlation_of_two_full_audits() -> None:
    rng = np.random.default_rng(0)
    mem = rng.beta(1.0, 2.0, size=1500)
    first, second = simulate(60, mem, rng), simulate(60, mem, rng)
    scores = [memorization.memorization_score(*audit).score for audit in (first, second)]
    truth = np.corrcoef(*scores)[0, 1]
    found = reliability.reliability(*first, n_splits=10)
    print(f"reliability: half {found.pearson_half:.3f}, stepped up {found.spearman_brown:.3f}, truth {truth:.3f}")
    assert found.spearman_brown == pytest.approx(truth, abs=0.03)
    assert found.pearson_half < truth - 0.05
    assert found.models_for_90 == np.ceil(60 * 9 * (1 - found.spearman_brown) / found.spearman_brown)
    assert found.models_for_95 > found.models_for_90 > 60


def test_models_for_ninety_reach_ninety() -> None:
    rng = np.random.default_rng(1)
    mem = rng.beta(1.0, 2.0, size=1500)
    needed = int(reliability.reliability(*simulate(60, mem, rng), n_splits=5).models_for_90)
    scores = [memorization.memorization_score(*simulate(needed, mem, rng)).score for _ in range(2)]
    assert np.corrcoef(*scores)[0, 1] == pytest.approx(0.90, abs=0.02)


def test_split_half_is_one_split_of_the_same_and_the_contract_finds_it() -> None:
    correct, mask = simulate(40, np.linspace(0, 1, 60), np.random.default_rng(2))
    alone = memorization.split_half_reliability(torch.tensor(correct), torch.tensor(mask), seed=4)
    assert alone == reliability.reliability(correct, mask, seed=4, n_splits=1).spearman_brown
    assert isinstance(alone, float)
    assert memorization.split_half_reliability is reliability.split_half_reliability


def test_blocks_stay_together() -> None:
    rng = np.random.default_rng(3)
    half = rng.random((3, 40)) < 0.5
    mask = np.stack([half, ~half], axis=1).reshape(6, 40)
    correct = rng.random(mask.shape) < np.where(mask, 0.9, 0.4)
    # One half is a single pair: it has both arms for every example only if the pair was kept whole.
    found = reliability.reliability(correct, mask, blocks=np.arange(6) // 2, n_splits=60)
    assert (found.n_examples, found.n_excluded) == (40, 0)
    # Single models are split so that an example loses an arm in 2 of 5 splits.
    assert reliability.reliability(correct, mask, n_splits=60).n_excluded > 0


def test_examples_without_both_arms_in_a_half_are_excluded_and_counted() -> None:
    correct, mask = simulate(12, np.linspace(0, 1, 30), np.random.default_rng(4), fraction=0.5)
    mask[:, 0], mask[:, 1] = True, False
    mask[0, 1] = True
    found = reliability.reliability(correct, mask, n_splits=5)
    assert found.n_excluded >= 2
    assert found.n_examples + found.n_excluded == 30
    assert np.isfinite(found.spearman_half)


def test_no_spread_is_nan() -> None:
    mask = np.tile([[True], [False]], (4, 5))
    found = reliability.reliability(mask, mask, blocks=np.arange(8) // 2)
    assert np.isnan([found.pearson_half, found.spearman_half, found.spearman_brown, found.models_for_90]).all()


def test_spearman_brown_round_trip() -> None:
    assert reliability.spearman_brown(0.5) == pytest.approx(2 / 3)
    full = reliability.spearman_brown(0.5, factor=4)
    assert reliability.models_for_reliability(100, 0.5, target=full) == 400
    assert np.isnan(reliability.models_for_reliability(100, -0.1, target=0.9))
    assert np.isnan(reliability.spearman_brown(-1.0))
    assert reliability.models_for_reliability(100, 1.0, target=0.9) == 2
