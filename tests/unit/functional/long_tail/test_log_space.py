"""Against exact integers and exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import special

from lightning_memaudit.functional.long_tail._log_space import log_beta, log_binomial, log_sum_exp


@pytest.mark.parametrize("n", [0, 1, 2, 9, 10, 11, 25, 1000, 10**6, 10**8, 10**10])
@pytest.mark.parametrize("k", [0, 1, 2, 7, 8, 9, 10, 11, 100, 500])
def test_log_binomial_is_the_logarithm_of_the_integer(n: int, k: int) -> None:
    if k > n:
        return
    exact = math.log(math.comb(n, k))
    assert float(log_binomial(n, k)) == pytest.approx(exact, rel=2e-15, abs=2e-14)
    assert float(log_binomial(n, n - k)) == pytest.approx(exact, rel=2e-15, abs=2e-14)


def test_what_scipy_loses() -> None:
    exact = math.log(math.comb(10**8, 1000))
    error = -math.log1p(10**8) - special.betaln(1001, 10**8 - 999) - exact
    print(f"log C(1e8, 1000): scipy.special.betaln is off by {error:.1e}")
    assert abs(error) > 1e-8
    assert abs(float(log_binomial(10**8, 1000)) - exact) < 1e-11


def test_log_beta_at_fractions_by_its_recurrence() -> None:
    # B(x, y + 1) = B(x, y) y / (x + y), from B(x, 1) = 1 / x upwards.
    for x in (Fraction(1, 10), Fraction(3, 10), Fraction(5, 2)):
        value = 1 / x
        for y in range(1, 40):
            exact = math.log(value.numerator) - math.log(value.denominator)
            assert float(log_beta(float(x), y)) == pytest.approx(exact, rel=1e-14, abs=3e-14)
            value *= Fraction(y) / (x + y)


def test_log_sum_exp() -> None:
    assert log_sum_exp(np.array([-1e9, -1e9])) == pytest.approx(-1e9 + math.log(2))
    assert log_sum_exp(np.array([-np.inf, 0.0])) == 0.0
    assert log_sum_exp(np.full(3, -np.inf)) == -math.inf
    assert log_sum_exp(np.array([])) == -math.inf
