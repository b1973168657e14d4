"""Influence against plain loops and the paper's own form, and its selections."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional import influence, memorization
from lightning_memaudit.functional.influence import _tiles as values


@pytest.fixture(autouse=True, scope="module", params=[True, False], ids=["bits", "products"])
def engine(request):
    """Everything is tested with either way to count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "popcount_pays", lambda n_models, n_pairs: request.param)
        yield


def draw(n_models: int, n_train: int, n_test: int, seed: int, fraction: float = 0.7):
    rng = np.random.default_rng(seed)
    return rng.random((n_models, n_test)) < 0.5, rng.random((n_models, n_train)) < fraction


def loop(correct, mask, *, given_out: bool = False):
    n_models, n_train, n_test = len(mask), mask.shape[1], correct.shape[1]
    result = np.full((n_train, n_test), np.nan)
    for i in range(n_train):
        for j in range(n_test):
            models = [k for k in range(n_models) if not (given_out and mask[k, j])]
            inside = [float(correct[k, j]) for k in models if mask[k, i]]
            outside = [float(correct[k, j]) for k in models if not mask[k, i]]
            if inside and outside and not (given_out and i == j):
                result[i, j] = sum(inside) / len(inside) - sum(outside) / len(outside)
    return result


@settings(deadline=None, max_examples=40)
@given(m=st.integers(2, 9), n=st.integers(1, 6), t=st.integers(1, 5), block=st.integers(1, 7), seed=st.integers(0, 999))
def test_dense_equals_plain_loops(m, n, t, block, seed) -> None:
    correct, mask = draw(m, n, t, seed)
    found = influence.influence(correct, mask, block=block)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, loop(correct, mask), atol=1e-6)
    np.testing.assert_allclose(influence.influence(correct, ~mask, block=block), -found, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(m=st.integers(2, 12), n=st.integers(1, 6), block=st.integers(1, 7), seed=st.integers(0, 999))
def test_given_out_equals_plain_loops(m, n, block, seed) -> None:
    correct, mask = draw(m, n, n, seed)
    found = influence.influence_given_out(correct, mask, block=block)
    np.testing.assert_allclose(found, loop(correct, mask, given_out=True), atol=1e-6)


def test_self_influence_is_memorization_and_order_is_irrelevant() -> None:
    correct, mask = draw(40, 10, 10, 0)
    found = influence.influence(correct, mask)
    np.testing.assert_allclose(np.diag(found), memorization.memorization_score(correct, mask).score, atol=1e-6)
    order = np.random.default_rng(1).permutation(40)
    np.testing.assert_array_equal(influence.influence(correct[order], mask[order]), found)


def test_agreement_with_the_released_code_of_the_paper() -> None:
    correct, mask = (array.astype(np.float64) for array in draw(30, 12, 9, 2))
    mask[:, 0] = 1.0
    inverse_in, inverse_out = 1 / (mask.sum(0)[:, None] + 1e-8), 1 / ((1 - mask).sum(0)[:, None] + 1e-8)
    theirs = mask.T @ correct * inverse_in - (1 - mask).T @ correct * inverse_out
    pairs = influence.influence(correct, mask, threshold=-1.0)
    np.testing.assert_allclose(pairs.influence, theirs[pairs.train_index, pairs.test_index], atol=1e-6)
    assert len(pairs.influence) == 11 * 9
    assert np.isnan(influence.influence(correct, mask)[0]).all()
    np.testing.assert_allclose(theirs[0], correct.mean(0), atol=1e-6)


def test_fractions_and_missing_outcomes() -> None:
    rng = np.random.default_rng(3)
    correct, mask = rng.random((12, 4)), rng.random((12, 5)) < 0.5
    correct[0, 2] = np.nan
    found = influence.influence(torch.tensor(correct), torch.tensor(mask))
    expected = loop(correct, mask)
    np.testing.assert_allclose(found[:, [0, 1, 3]], expected[:, [0, 1, 3]], atol=1e-6)
    assert np.isnan(found[:, 2]).all()
    square = rng.random((12, 5))
    np.testing.assert_allclose(
        influence.influence_given_out(square, mask), loop(square, mask, given_out=True), atol=1e-6
    )


def test_out_is_a_path_or_an_array(tmp_path) -> None:
    correct, mask = draw(20, 9, 7, 4)
    expected = influence.influence(correct, mask)
    mapped = influence.influence(correct, mask, out=tmp_path / "infl.npy", block=4)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, expected)
    mapped.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "infl.npy"), expected)
    given_array = np.empty((9, 7), dtype=np.float32)
    assert influence.influence(correct, mask, out=given_array) is given_array
    np.testing.assert_array_equal(given_array, expected)


def test_top_k_and_threshold() -> None:
    correct, mask = draw(25, 30, 8, 5)
    exact = loop(correct, mask)
    best = influence.influence(correct, mask, top_k=3, block=7)
    assert best.influence.dtype == np.float64
    assert np.bincount(best.test_index).tolist() == [3] * 8
    for j in range(8):
        np.testing.assert_allclose(np.sort(best.influence[best.test_index == j]), np.sort(exact[:, j])[-3:], atol=1e-12)
    over = influence.influence(correct, mask, threshold=0.2, block=7)
    assert len(over.influence) == (exact >= 0.2 - 1e-12).sum()
    both = influence.influence(correct, mask, top_k=3, threshold=0.2)
    assert len(both.influence) == (best.influence >= 0.2 - 1e-12).sum()


def test_many_tiles_on_two_threads_and_the_memory_they_take(tmp_path) -> None:
    correct, mask = draw(100, 2100, 1100, 10)
    inside, right = mask.astype(np.int64), correct.astype(np.int64)
    count, n_in = inside.T @ right, inside.sum(axis=0)[:, None]
    exact = count / n_in - (right.sum(axis=0) - count) / (100 - n_in)
    out = np.empty(exact.shape, dtype=np.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    tracemalloc.start()
    try:
        influence.influence(correct, mask, out=out)
        best = influence.influence(correct, mask, top_k=5)
        over = influence.influence(correct, mask, threshold=0.4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        torch.set_num_threads(before)
    # At block = 2100 a product is a single tile of the largest size.
    assert peak < (2 * 10e6 if values.popcount_pays(1, 1) else 150e6)
    np.testing.assert_array_equal(out, exact.astype(np.float32))
    order = np.argsort(-exact, axis=0, kind="stable")[:5]
    for j in range(0, 1100, 50):
        assert sorted(best.train_index[best.test_index == j]) == sorted(order[:, j])
    assert len(over.influence) == (exact >= 0.4 - 1e-12).sum()


def test_duplicates_show_given_out_only() -> None:
    rng = np.random.default_rng(6)
    mask = rng.random((2000, 2)) < 0.7
    correct = np.repeat(mask.any(axis=1, keepdims=True), 2, axis=1)
    assert influence.influence(correct, mask)[0, 1] == pytest.approx(0.30, abs=0.03)
    assert memorization.memorization_score(correct, mask).score[0] == pytest.approx(0.30, abs=0.03)
    assert influence.influence_given_out(correct, mask)[0, 1] == 1.0


def test_min_models_hides_what_few_models_say() -> None:
    correct, mask = draw(20, 6, 6, 7)
    loose = influence.influence_given_out(correct, mask)
    strict = influence.influence_given_out(correct, mask, min_models=3)
    out = ~mask
    both = mask.T.astype(int) @ out
    few = (both < 3) | (out.sum(0) - both < 3)
    assert np.isnan(strict[few]).all()
    np.testing.assert_array_equal(strict[~few], loose[~few])


def test_high_influence_pairs_follow_the_rule() -> None:
    correct, mask = draw(15, 20, 10, 8)
    rng = np.random.default_rng(9)
    mem, first, second = rng.random(20), rng.integers(0, 3, 20), rng.integers(0, 3, 10)
    mem[0] = np.nan
    found = influence.high_influence_pairs(correct, mask, memorization=mem, labels_train=first, labels_test=second)
    exact = loop(correct, mask)
    expected = {
        (i, j) for i in range(20) for j in range(10) if mem[i] >= 0.25 and exact[i, j] >= 0.15 and first[i] == second[j]
    }
    assert set(zip(found.train_index.tolist(), found.test_index.tolist(), strict=True)) == expected
    assert expected


@pytest.mark.parametrize(("n_models", "false"), [(200, 130_000), (400, 15_000), (1000, 34), (2000, 0.002)])
def test_expected_false_pairs(n_models, false) -> None:
    found = influence.expected_false_pairs(0.7 * n_models, 0.3 * n_models, 100 * 500 * 100)
    assert found == pytest.approx(false, rel=0.15)


def test_minimum_detectable_influence_has_its_power() -> None:
    n_in, n_out, tests = 700, 300, 1000
    needed = influence.minimum_detectable_influence(n_in, n_out, tests)
    error = np.sqrt(0.25 / n_in + 0.25 / n_out)
    draws = np.random.default_rng(0).normal(needed, error, 20000)
    critical = -np.quantile(np.random.default_rng(1).normal(0, error, 2_000_000), 0.05 / tests)
    assert (draws > critical).mean() == pytest.approx(0.8, abs=0.06)
    assert influence.minimum_detectable_influence(7, 3, 10**6) > 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: influence.influence(np.eye(3), np.eye(2)), ["mask", "(3, 2)", "(2, 2)"]),
        (lambda: influence.influence(np.eye(3) * 2, np.eye(3)), ["correct_test", "[0, 1]"]),
        (lambda: influence.influence(np.eye(3), np.eye(3), top_k=0), ["top_k", "0"]),
        (lambda: influence.influence(np.eye(3), np.eye(3), block=0), ["block", "0"]),
        (lambda: influence.influence(np.eye(3), np.eye(3), top_k=1, out="x.npy"), ["out", "top_k"]),
        (lambda: influence.influence(np.eye(3), np.eye(3), out=np.empty((2, 2))), ["out", "(3, 3)"]),
        (lambda: influence.influence_given_out(np.ones((3, 2)), np.ones((3, 3))), ["mask", "(3, 2)"]),
        (lambda: influence.influence_given_out(np.eye(3), np.eye(3), min_models=0), ["min_models", "0"]),
        (lambda: influence.minimum_detectable_influence(0, 5, 10), ["n_in", "0"]),
        (
            lambda: influence.high_influence_pairs(
                np.eye(2), np.eye(2), memorization=[1], labels_train=[0, 0], labels_test=[0, 0]
            ),
            ["memorization", "2 entries"],
        ),
    ],
)
def test_messages_name_the_argument(call, words) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value
