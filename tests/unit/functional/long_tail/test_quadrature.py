"""The rules against the sums that they replace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional.long_tail._log_space import log_sum_exp
from lightning_memaudit.functional.long_tail._quadrature import NODES, WIDTH, compress, rank_rule


@pytest.mark.parametrize(("first", "last"), [(1, 9), (1, 1000), (131073, 133121), (5, 12)])
def test_rank_rule_is_exact_for_polynomials(first: int, last: int) -> None:
    nodes, weights = rank_rule(first, last)
    ranks = np.arange(first, last + 1, dtype=np.float64)
    middle, half = (first + last) / 2, (last - first) / 2
    for degree in range(2 * NODES):
        exact = (((ranks - middle) / half) ** degree).sum()
        assert weights @ ((nodes - middle) / half) ** degree == pytest.approx(exact, rel=1e-11, abs=1e-9)
    assert (weights > 0).all()
    assert ((nodes > first - 1e-9) & (nodes < last + 1e-9)).all()


def test_rank_rule_does_no_work_for_many_ranks() -> None:
    nodes, weights = rank_rule(1, 10**15)
    assert len(nodes) == NODES
    assert weights @ nodes == pytest.approx(10**15 * (10**15 + 1) / 2)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4000), st.sampled_from([1e-12, 1e-3, 0.3, 3.0]))
def test_compress_keeps_mass_moments_and_signs(seed: int, size: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    values, weights = np.exp(rng.normal(-10, spread, size)), rng.random(size) + 1e-3
    values[rng.random(size) < 0.1] = 0.0
    values[rng.random(size) < 0.1] = np.exp(-10)
    nodes, masses = compress(values, weights)
    positive = np.log(values[values > 0])
    bins = (positive.max(initial=0) - positive.min(initial=0)) / WIDTH + 2
    assert len(nodes) <= min(size, NODES * bins + 1)
    assert (masses >= 0).all()
    assert (nodes >= 0).all()
    for power in range(6):
        assert masses @ nodes**power == pytest.approx(weights @ values**power, rel=1e-12)


def test_compress_of_a_smooth_tail_has_the_stated_error() -> None:
    values = np.exp(np.random.default_rng(0).normal(-9, 1.5, 200_000))
    nodes, masses = compress(values, np.ones_like(values))
    assert len(nodes) < 6000
    for power, tolerance in ((1, 1e-14), (100, 1e-12), (1000, 1e-11), (10_000, 1e-10)):
        for rate in (1e4, 1e6, 1e7):
            exact = log_sum_exp(power * np.log(values) - rate * values)
            found = log_sum_exp(np.log(masses) + power * np.log(nodes) - rate * nodes)
            assert found == pytest.approx(exact, rel=1e-15, abs=tolerance)
