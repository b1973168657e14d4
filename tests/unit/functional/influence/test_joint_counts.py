"""Exactness of the counts by population count and by both products, and when which of them is taken."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional.influence import _joint_counts as joint


def draw(m: int, a: int, b: int, seed: int, p: float = 0.7):
    rng = np.random.default_rng(seed)
    return rng.random((m, a)) < p, rng.random((m, b)) < p


def factors(first, second, *, packed: bool):
    return (
        joint.factor(lambda at: first[:, at], first.shape, packed=packed),
        joint.factor(lambda at: second[:, at], second.shape, packed=packed),
    )


@pytest.fixture
def fresh_kernel():
    joint._kernel.cache_clear()
    yield
    joint._kernel.cache_clear()


@settings(deadline=None, max_examples=60)
@given(
    m=st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129, 1000, 1025])),
    a=st.integers(1, 70),
    b=st.integers(1, 140),
    packed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_counts_of_chosen_columns_equal_int64(m, a, b, packed, seed) -> None:
    first, second = draw(m, a, b, seed)
    rng = np.random.default_rng(seed)
    rows, columns = np.flatnonzero(rng.random(a) < 0.8), np.flatnonzero(rng.random(b) < 0.8)
    exact = first.astype(np.int64).T @ second.astype(np.int64)
    found = joint.joint_counts(*factors(first, second, packed=packed), rows, columns)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, exact[np.ix_(rows, columns)])


@settings(deadline=None, max_examples=30)
@given(m=st.integers(1, 40), a=st.integers(1, 20), b=st.integers(1, 20), seed=st.integers(0, 1000))
def test_both_products_equal_int64(m, a, b, seed) -> None:
    first, second = draw(m, a, b, seed)
    exact = first.astype(np.int64).T @ second.astype(np.int64)
    np.testing.assert_array_equal(joint.cross_counts(first, second), exact)
    left = torch.from_numpy(np.ascontiguousarray(first.T)).to(torch.int8)
    np.testing.assert_array_equal(joint.int8_product(left, torch.from_numpy(second).to(torch.int8)).numpy(), exact)


@pytest.mark.parametrize("engine", ["int8", "float32", "bits"])
def test_counts_beyond_what_bfloat16_holds(engine) -> None:
    first, second = draw(4001, 7, 5, seed=0, p=0.9)
    exact = first.astype(np.int64).T @ second.astype(np.int64)
    if engine == "bits":
        found = joint.joint_counts(*factors(first, second, packed=True), np.arange(7), np.arange(5))
    else:
        found = joint.cross_counts(first, second, int8=engine == "int8")
    np.testing.assert_array_equal(found, exact)
    rounded = torch.from_numpy(exact).to(torch.bfloat16).double().numpy()
    assert (rounded != exact).any()


def test_fractions_and_arrays_that_must_not_be_written() -> None:
    first, second = draw(30, 4, 3, seed=1)
    fractions = np.random.default_rng(2).random((30, 3))
    for array in (first, second, fractions):
        array.flags.writeable = False
    found = joint.joint_counts(*factors(first, fractions, packed=False), np.arange(4), np.arange(3))
    np.testing.assert_allclose(found, first.T.astype(float) @ fractions, rtol=1e-13)
    np.testing.assert_array_equal(
        joint.joint_counts(*factors(first, second, packed=False), np.arange(4), np.arange(3)),
        joint.joint_counts(*factors(first, second, packed=True), np.arange(4), np.arange(3)),
    )


@pytest.mark.parametrize("m", [1, 63, 64, 65, 200])
def test_words_hold_every_model_once_and_end_in_zeros(m) -> None:
    array, _ = draw(m, 8, 1, seed=m)
    words = joint.pack(lambda at: array[:, at], array.shape, at_once=3)
    assert words.shape == (8, -(-m // 64))
    np.testing.assert_array_equal(np.bitwise_count(words).sum(axis=1), array.sum(axis=0))
    one_by_one = joint.pack(lambda at: np.eye(m, dtype=bool)[:, at], (m, m), at_once=3)
    assert (np.bitwise_count(one_by_one).sum(axis=1) == 1).all()
    assert len({row.tobytes() for row in one_by_one}) == m
    assert joint.pack(lambda at: array[:, :0][:, at], (m, 0)).shape == (0, -(-m // 64))


def test_bits_are_counted_where_that_repays_the_start(fresh_kernel) -> None:
    assert not joint.popcount_pays(1000, 1000)
    assert not joint._kernel.cache_info().currsize
    assert joint.popcount_pays(2000, 10**9)
    assert joint.popcount_pays(2, 1)


def test_products_remain_without_numba(fresh_kernel, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "lightning_memaudit.functional.influence._popcount", raising=False)
    assert not joint.popcount_pays(2000, 10**9)
    first, second = draw(20, 3, 4, seed=3)
    exact = first.astype(np.int64).T @ second.astype(np.int64)
    found = joint.joint_counts(*factors(first, second, packed=True), np.arange(3), np.arange(4))
    np.testing.assert_array_equal(found, exact)


def test_probe_answers_and_survives_a_torch_without_the_product() -> None:
    assert joint._int8_is_faster() in (True, False)

    def missing(a, b):
        raise RuntimeError("not there")

    assert joint._int8_is_faster(missing) is False


def test_one_delay_does_not_decide_which_product_is_faster() -> None:
    delays = iter([0.0, 0.05, 0.0, 0.05, 0.0, 0.05])

    def product():
        time.sleep(next(delays))
        return torch.ones(1)

    assert joint._least_seconds(product) < 0.02


def test_a_torch_whose_product_is_wrong_is_not_used() -> None:
    assert joint._int8_is_right(lambda a, b: a.int() @ b.int(), 1, 33, 2)
    assert not joint._int8_is_faster(lambda a, b: (a.int() @ b.int()) + (len(b) == 33))


@pytest.mark.parametrize("width", [1, 2, 3, 16, 300])
def test_one_row_times_a_matrix(width: int) -> None:
    first, second = draw(100, 1, width, seed=width)
    left = torch.from_numpy(np.ascontiguousarray(first.T)).to(torch.int8)
    found = joint.int8_product(left, torch.from_numpy(second).to(torch.int8))
    assert found.shape == (1, width)
    np.testing.assert_array_equal(found.numpy(), first.astype(np.int64).T @ second.astype(np.int64))
