"""The selection of pairs against sorting everything, and the cutting of regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional.influence._pairs import Region, select_pairs
from lightning_memaudit.functional.influence._tiles import Tiles


def of_matrix(matrix, *, packed: bool) -> Tiles:
    return Tiles(lambda rows, columns: matrix[np.ix_(rows, columns)], packed)


@settings(deadline=None, max_examples=100)
@given(
    n=st.integers(1, 30),
    m=st.integers(1, 6),
    block=st.integers(1, 13),
    top_k=st.one_of(st.none(), st.integers(1, 5)),
    threshold=st.sampled_from([None, 0.2, 0.5]),
    packed=st.booleans(),
    missing=st.sampled_from([0.2, 0.9]),
    seed=st.integers(0, 1000),
)
def test_selection_equals_a_sort_of_everything(n, m, block, top_k, threshold, packed, missing, seed) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-2, 5, (n, m)) / 5
    matrix[rng.random(n) < missing] = np.nan
    region = Region(np.arange(n), np.arange(m))
    found = select_pairs(of_matrix(matrix, packed=packed), region, block=block, top_k=top_k, threshold=threshold)
    expected = []
    for j in range(m):
        column = sorted((-matrix[i, j], i) for i in range(n) if not np.isnan(matrix[i, j]))[:top_k]
        expected += [(value, i, j) for value, i in column if threshold is None or -value >= threshold]
    expected.sort()
    triplets = zip((-found.influence).tolist(), found.train_index.tolist(), found.test_index.tolist(), strict=True)
    assert list(triplets) == expected
    assert found.test_index.dtype == np.int64


@pytest.mark.parametrize("top_k", [1, 40])
def test_many_blocks_and_stripes(top_k) -> None:
    rng = np.random.default_rng(0)
    matrix = np.round(rng.normal(size=(3000, 700)), 2)
    rows, columns = np.arange(0, 3000, 2), np.arange(1, 700, 3)
    region = Region(rows, columns)
    found = select_pairs(of_matrix(matrix, packed=True), region, block=4096, top_k=top_k, threshold=None)
    best = rows[np.argsort(-matrix[np.ix_(rows, columns)], axis=0, kind="stable")[:top_k]]
    for j, column in zip(columns, best.T, strict=True):
        assert sorted(found.train_index[found.test_index == j]) == sorted(column)


def test_nothing_to_choose_from() -> None:
    nothing = select_pairs(
        of_matrix(np.zeros((0, 0)), packed=False), Region(np.arange(0), np.arange(0)), block=1, top_k=2, threshold=None
    )
    assert nothing.test_index.dtype == np.int64
    assert len(nothing.influence) == 0


@pytest.mark.parametrize("packed", [True, False])
def test_stripes_cover_each_pair_within_a_class_once(packed) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3, 17), rng.integers(0, 4, 11)
    seen = np.zeros((17, 11), dtype=int)
    region = Region(np.arange(1, 17), np.arange(11), first, second)
    for blocks, columns in region.stripes(of_matrix(seen, packed=packed), block=4):
        assert max(len(rows) for rows in blocks) <= 4
        assert (np.diff(np.concatenate(blocks)) > 0).all()
        for rows in blocks:
            seen[np.ix_(rows, columns)] += 1
    np.testing.assert_array_equal(seen[1:], first[1:, None] == second)
    assert region.size == seen.sum()
    assert (seen[0] == 0).all()
