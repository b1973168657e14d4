"""Memorization scores against plain loops and the paper's own form; the jackknife by group against simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from lightning_memaudit.functional import intervals, memorization

outcome_pairs = st.tuples(st.integers(2, 9), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape))
)


def simulate(n_models: int, p_in: np.ndarray, p_out: np.ndarray, *, fraction: float = 0.7, seed: int = 0):
    rng = np.random.default_rng(seed)
    mask = rng.random((n_models, len(p_in))) < fraction
    return rng.random(mask.shape) < np.where(mask, p_in, p_out), mask


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def loop_score(correct, mask):
    n_models, n = len(correct), len(correct[0])
    inside = [mean([correct[k][i] for k in range(n_models) if mask[k][i]]) for i in range(n)]
    outside = [mean([correct[k][i] for k in range(n_models) if not mask[k][i]]) for i in range(n)]
    return inside, outside


@settings(deadline=None)
@given(pair=outcome_pairs)
def test_score_equals_plain_loops(pair) -> None:
    correct, mask = pair
    found = memorization.memorization_score(correct, mask)
    inside, outside = loop_score(correct.astype(float).tolist(), mask.tolist())
    np.testing.assert_allclose(found.in_accuracy, inside, atol=1e-12)
    np.testing.assert_allclose(found.out_accuracy, outside, atol=1e-12)
    np.testing.assert_array_equal(found.score, found.in_accuracy - found.out_accuracy)
    np.testing.assert_array_equal(found.n_in + found.n_out, len(mask))
    np.testing.assert_array_equal(memorization.c_score(correct, mask), found.out_accuracy)


@settings(deadline=None)
@given(pair=outcome_pairs, seed=st.integers(0, 99))
def test_order_of_models_is_irrelevant_and_the_complement_flips_the_sign(pair, seed) -> None:
    correct, mask = pair
    found = memorization.memorization_score(correct, mask)
    order = np.random.default_rng(seed).permutation(len(mask))
    np.testing.assert_array_equal(memorization.memorization_score(correct[order], mask[order]).score, found.score)
    np.testing.assert_array_equal(memorization.memorization_score(correct, ~mask).score, -found.score)


@settings(deadline=None, max_examples=40)
@given(pair=outcome_pairs)
def test_agreement_with_the_released_code_of_the_paper(pair) -> None:
    correct, mask = (array.astype(np.float64) for array in pair)
    theirs = (mask * correct).sum(0) / (mask.sum(0) + 1e-8) - ((1 - mask) * correct).sum(0) / ((1 - mask).sum(0) + 1e-8)
    found = memorization.memorization_score(correct, mask)
    both = (found.n_in > 0) & (found.n_out > 0)
    np.testing.assert_allclose(found.score[both], theirs[both], atol=1e-6)
    np.testing.assert_array_equal(np.isnan(found.score), ~both)


def test_an_empty_arm_is_silent_in_the_released_code_and_nan_here() -> None:
    correct, mask = np.ones((4, 1)), np.ones((4, 1))
    theirs = (mask * correct).sum(0) / (mask.sum(0) + 1e-8) - ((1 - mask) * correct).sum(0) / ((1 - mask).sum(0) + 1e-8)
    assert theirs[0] == pytest.approx(1.0)
    found = memorization.memorization_score(correct, mask)
    assert np.isnan(found.score[0])
    assert found.in_accuracy[0] == 1.0
    assert found.n_out[0] == 0


def test_missing_outcomes_make_the_example_nan() -> None:
    correct = np.array([[1.0, np.nan], [0.0, np.nan], [1.0, np.nan]])
    found = memorization.memorization_score(correct, [[1, 1], [0, 0], [1, 0]])
    assert found.score[0] == 1.0
    assert np.isnan([found.score[1], found.in_accuracy[1], found.out_accuracy[1]]).all()


def test_torch_tensors_give_the_same_in_float64() -> None:
    correct, mask = simulate(20, np.full(5, 0.9), np.full(5, 0.2))
    expected = memorization.memorization_score(correct, mask)
    found = memorization.memorization_score(torch.tensor(correct).float(), torch.tensor(mask))
    assert found.score.dtype == np.float64
    np.testing.assert_array_equal(found.score, expected.score)


@pytest.mark.parametrize(
    ("method", "function"),
    [("agresti-caffo", intervals.agresti_caffo), ("newcombe", intervals.newcombe), ("wald", intervals.wald_difference)],
)
def test_interval_uses_the_counts(method, function) -> None:
    correct, mask = simulate(30, np.linspace(0.5, 1, 6), np.linspace(0, 0.5, 6))
    k_in, k_out = (correct & mask).sum(0), (correct & ~mask).sum(0)
    expected = function(k_in, mask.sum(0), k_out, (~mask).sum(0), level=0.9)
    found = memorization.memorization_interval(correct, mask, 0.9, method)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert memorization.interval_method(correct, method) == method


def test_fractions_take_welch_with_a_floor() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((40, 3)) < 0.7
    correct = np.where(mask, rng.beta(5, 1, mask.shape), rng.beta(2, 2, mask.shape))
    correct[:, 2] = 1.0
    low, high = memorization.memorization_interval(correct, mask, method="newcombe")
    assert memorization.interval_method(correct, "newcombe") == "welch-floor"
    for i in range(3):
        inside, outside = correct[mask[:, i], i], correct[~mask[:, i], i]
        expected = intervals.welch_floor(
            inside.mean(), inside.var(), len(inside), outside.mean(), outside.var(), len(outside)
        )
        assert [low[i], high[i]] == pytest.approx([float(x) for x in expected], abs=1e-9)
    assert high[2] - low[2] > 0.05


@pytest.mark.parametrize(
    ("n_models", "error"), [(50, 0.154), (100, 0.109), (200, 0.077), (400, 0.055), (1000, 0.035), (4000, 0.017)]
)
def test_worst_case_standard_error(n_models, error) -> None:
    assert memorization.worst_case_standard_error(n_models, 0.7) == pytest.approx(error, abs=5e-4)


@pytest.mark.parametrize(("n", "r"), [(1, 0.5), (1797, 0.7), (50000, 0.7), (50000, 0.9), (10, 0.1)])
def test_models_for_both_arms_is_the_smallest(n, r) -> None:
    found = memorization.models_for_in_and_out(n, r)
    assert n * (r**found + (1 - r) ** found) <= 0.05
    assert found == 2 or n * (r ** (found - 1) + (1 - r) ** (found - 1)) > 0.05


def test_grouped_jackknife_equals_plain_deletion() -> None:
    correct, mask = simulate(12, np.full(9, 0.9), np.full(9, 0.3), fraction=0.5, seed=3)
    groups, blocks = np.array([0, 0, 0, 1, 1, 1, 1, 3, 3]), np.repeat(np.arange(6), 2)
    for chosen in (None, blocks):
        found = memorization.grouped_memorization(correct, mask, groups, n_groups=4, blocks=chosen)
        codes = np.arange(12) if chosen is None else chosen
        scores = memorization.memorization_score(correct, mask).score
        for g in (0, 1, 3):
            assert found.score[g] == pytest.approx(np.nanmean(scores[groups == g]))
            deleted = [
                np.nanmean(memorization.memorization_score(correct[codes != b], mask[codes != b]).score[groups == g])
                for b in np.unique(codes)
            ]
            b = len(deleted)
            half = stats.t.ppf(0.975, b - 1) * np.sqrt((b - 1) ** 2 / b * np.var(deleted, ddof=1))
            assert found.high[g] == pytest.approx(min(found.score[g] + half, 1.0))
        assert found.n.tolist() == [3, 4, 0, 2]
        assert np.isnan([found.score[2], found.low[2], found.in_accuracy[2]]).all()


@pytest.mark.parametrize("paired", [False, True])
def test_grouped_interval_covers_when_models_differ_in_quality(paired) -> None:
    n_models, n, repeats = 40, 30, 400
    rng = np.random.default_rng(11)
    p_in, p_out = rng.uniform(0.6, 0.8, n), rng.uniform(0.2, 0.6, n)
    hits = 0
    for _ in range(repeats):
        if paired:
            half = rng.random((n_models // 2, n)) < 0.5
            mask = np.stack([half, ~half], axis=1).reshape(n_models, n)
        else:
            mask = rng.random((n_models, n)) < 0.7
        # A model that is better than the others is so for all examples, in and out by different amounts.
        quality = rng.uniform(-0.15, 0.15, size=(n_models, 1))
        correct = rng.random(mask.shape) < np.where(mask, p_in + quality, p_out - quality)
        blocks = np.arange(n_models) // 2 if paired else None
        found = memorization.grouped_memorization(correct, mask, np.zeros(n, dtype=int), n_groups=1, blocks=blocks)
        hits += bool(found.low[0] <= (p_in - p_out).mean() <= found.high[0])
    print(f"grouped jackknife, paired={paired}: coverage {hits / repeats:.3f}")
    assert 0.92 <= hits / repeats <= 0.98
