"""Bounds hold, limits are approached."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from lightning_memaudit.functional.long_tail import (
    cost_of_not_fitting,
    dirichlet,
    expected_count,
    expected_mass,
    from_frequencies,
    marginal,
    mean_memorization,
    missing_mass,
    singleton_lower_bound,
    tau,
    tau_1_lower_bound,
    zipf,
    zipf_limit,
)

LAWS = st.one_of(
    st.builds(zipf, st.integers(2, 500), st.floats(0, 3)).map(marginal),
    st.builds(dirichlet, st.integers(2, 500), st.floats(0.01, 5)).map(lambda prior: marginal(prior, mode="iid")),
    st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=8).map(from_frequencies).map(marginal),
)


@settings(deadline=None, max_examples=150)
@given(LAWS, st.integers(3, 2000))
def test_lower_bounds_hold(law, n: int) -> None:
    singletons = float(expected_count(law, n, 1))
    assert singletons >= singleton_lower_bound(law, n) * (1 - 1e-9)
    if singletons > 1e-200:
        assert float(tau(law, n, 1)) >= tau_1_lower_bound(law, n) * (1 - 1e-9)


def test_bounds_by_hand() -> None:
    law = marginal(from_frequencies([8, 1, 1]))  # .8, .1, .1
    assert tau_1_lower_bound(law, 10) == pytest.approx(0.2 / 50)
    assert tau_1_lower_bound(law, 3) == 0.0  # [1/9, 2/3] holds none
    assert singleton_lower_bound(law, 10) == pytest.approx(10 * 0.2 / 3)


def test_zipf_limit_is_approached_and_falls_like_one_over_log() -> None:
    gaps, costs = [], []
    for n in (10**3, 10**5, 10**7):
        law, limit = marginal(zipf(n)), zipf_limit(n, n)
        gaps.append(
            [
                abs(n * float(tau(law, n, 1)) / limit.n_tau_1 - 1),
                abs(float(expected_count(law, n, 1)) / n / limit.singleton_fraction - 1),
                abs(missing_mass(law, n) / limit.singleton_fraction - 1),
            ]
        )
        costs.append(cost_of_not_fitting(law, n, n_classes=10))
        assert limit.n_tau_1 * limit.singleton_fraction == pytest.approx(float(expected_mass(law, n, 1)), rel=0.01)
    print("zipf limit off by", np.array(gaps).tolist(), "; excess at 1e3, 1e5, 1e7:", costs)
    assert max(gaps[0]) < 1e-3
    assert max(gaps[1]) < 1e-5
    assert costs[0] > costs[1] > costs[2]
    # n tau_1 singleton fraction -> e^-x / H_N
    assert [
        cost / 0.9 * special.digamma(n + 1) for cost, n in zip(costs, (1e3, 1e5, 1e7), strict=True)
    ] == pytest.approx([1.0] * 3, abs=0.2)
    assert zipf_limit(1000, 10**9).n_tau_1 == pytest.approx(10**6 / 7.485470861, rel=1e-4)  # x + 1 for large x


def test_mean_memorization() -> None:
    assert mean_memorization(0.2, 0.05) == pytest.approx(0.15)
