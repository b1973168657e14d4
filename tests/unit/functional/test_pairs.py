"""Exactness of the products of counts, and the selection of pairs against sorting everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional import pairs


@settings(deadline=None, max_examples=30)
@given(m=st.integers(1, 40), a=st.integers(1, 20), b=st.integers(1, 20), seed=st.integers(0, 1000))
def test_both_products_equal_int64(m, a, b, seed) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((m, a)) < 0.7, rng.random((m, b)) < 0.5
    exact = first.astype(np.int64).T @ second.astype(np.int64)
    np.testing.assert_array_equal(pairs.cross_counts(first, second), exact)
    left = torch.from_numpy(np.ascontiguousarray(first.T)).to(torch.int8)
    np.testing.assert_array_equal(pairs.int8_product(left, torch.from_numpy(second).to(torch.int8)).numpy(), exact)


@pytest.mark.parametrize("int8", [True, False])
def test_counts_beyond_what_bfloat16_holds(int8, monkeypatch) -> None:
    monkeypatch.setattr(pairs, "_int8_is_faster", lambda: int8)
    rng = np.random.default_rng(0)
    first, second = rng.random((4001, 7)) < 0.9, rng.random((4001, 5)) < 0.9
    exact = first.astype(np.int64).T @ second.astype(np.int64)
    found = pairs.cross_counts(first, second)
    np.testing.assert_array_equal(found, exact)
    rounded = torch.from_numpy(exact).to(torch.bfloat16).double().numpy()
    assert (rounded != exact).any()


def test_probe_answers_and_survives_a_torch_without_the_product(monkeypatch) -> None:
    pairs._int8_is_faster.cache_clear()
    assert pairs._int8_is_faster() in (True, False)
    pairs._int8_is_faster.cache_clear()

    def missing(a, b):
        raise RuntimeError("not there")

    monkeypatch.setattr(pairs, "int8_product", missing)
    assert pairs._int8_is_faster() is False
    pairs._int8_is_faster.cache_clear()


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 12),
    m=st.integers(1, 6),
    block=st.integers(1, 13),
    top_k=st.integers(1, 5),
    threshold=st.sampled_from([None, 0.2, 0.5]),
    seed=st.integers(0, 1000),
)
def test_selection_equals_a_sort_of_everything(n, m, block, top_k, threshold, seed) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 5, (n, m)) / 5
    matrix[rng.random((n, m)) < 0.2] = np.nan
    cuts = pairs.tiles(np.arange(n), np.arange(m), block=block)
    found = pairs.select_pairs(lambda r, c: matrix[np.ix_(r, c)], cuts, top_k=top_k, threshold=threshold)
    expected = []
    for j in range(m):
        column = sorted((-matrix[i, j], i) for i in range(n) if not np.isnan(matrix[i, j]))[:top_k]
        expected += [(i, j) for value, i in column if threshold is None or -value >= threshold]
    assert set(zip(found.train_index.tolist(), found.test_index.tolist(), strict=True)) == set(expected)
    assert (np.diff(found.influence) <= 0).all()


def test_tiles_cover_each_pair_within_a_class_once() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3, 17), rng.integers(0, 4, 11)
    seen = np.zeros((17, 11), dtype=int)
    for rows, columns in pairs.tiles(np.arange(17), np.arange(11), block=4, row_labels=first, column_labels=second):
        assert len(rows) <= 4
        seen[np.ix_(rows, columns)] += 1
    np.testing.assert_array_equal(seen, first[:, None] == second)
