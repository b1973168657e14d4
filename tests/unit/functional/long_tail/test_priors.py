"""Lists of frequencies, and the compressed Zipf list against the full one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional import long_tail
from lightning_memaudit.functional.long_tail import marginal


def test_lists() -> None:
    assert long_tail.zipf(4, 2).frequencies == pytest.approx(np.array([144, 36, 16, 9]) / 205)
    assert long_tail.uniform(10**8).frequencies == pytest.approx([1e-8])
    assert long_tail.zipf(10**6, 0).multiplicity.tolist() == [10**6]
    light = long_tail.two_level(10, 1, 1.0)
    assert light.frequencies.tolist() == [1.0, 0.0]
    grouped = long_tail.from_frequencies(torch.tensor([3, 0, 3, 6]))
    assert grouped.frequencies == pytest.approx([0, 0.25, 0.5])
    assert grouped.multiplicity.tolist() == [1, 2, 1]
    assert long_tail.from_frequencies([1e300, 1e300, 1e-300]).frequencies[-1] == 0.5


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 2000), st.floats(0, 6))
def test_every_list_sums_to_one(n_points: int, exponent: float) -> None:
    prior = long_tail.zipf(n_points, exponent)
    assert prior.multiplicity.sum() == n_points
    assert prior.multiplicity @ prior.frequencies == pytest.approx(1.0)


@pytest.mark.parametrize("exponent", [0.3, 1.0, 1.7, 4.0])
def test_the_compressed_list_is_the_full_list(exponent: float) -> None:
    n_points = 2_000_000
    prior = long_tail.zipf(n_points, exponent)
    assert len(prior.frequencies) < 140_000
    assert prior.multiplicity.sum() == pytest.approx(n_points, rel=1e-14)
    weights = np.arange(1, n_points + 1, dtype=np.float64) ** -exponent
    logs = np.log(weights / weights.sum())
    complements = np.log1p(-np.exp(logs))
    law = marginal(prior)
    for n_samples, ell in ((10**4, 0), (10**6, 1), (10**6, 10), (10**8, 40), (10**10, 5000)):
        terms = ell * logs + (n_samples - ell) * complements
        exact = terms.max() + np.log(np.exp(terms - terms.max()).sum() / n_points)
        # abs: the error of the rule; rel: rounding of the logarithms, in the full sum too
        assert law.log_moment(ell, n_samples - ell) == pytest.approx(exact, rel=2e-14, abs=1e-12)


def test_a_billion_points_take_no_work() -> None:
    prior = long_tail.zipf(10**9)
    assert 1 / prior.frequencies[0] == pytest.approx(np.log(10**9) + np.euler_gamma + 0.5e-9, rel=1e-14)


@pytest.mark.parametrize("make", [long_tail.zipf, long_tail.uniform])
def test_there_is_a_largest_number_of_points(make) -> None:
    assert make(10**18).n_points == 10**18
    with pytest.raises(ArgumentError, match=r"at most 1e\+18 is needed"):
        make(10**18 + 1)
