from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lightning_memaudit import testing
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.testing.law import SubsetLaw, zipf_weights


@pytest.mark.parametrize("itself", [0, 1])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.7, 0.98])
def test_weights_turn_coins_into_draws_without_replacement(itself: int, fraction: float) -> None:
    law = SubsetLaw(50, subset_fraction=fraction, design="fixed_size")
    t = np.arange(13)
    coins = stats.binom.pmf(t, 12, law.rate(itself))
    expected = stats.hypergeom.pmf(t, 49, 12, round(50 * fraction) - itself)
    np.testing.assert_allclose(coins * law.weights(12, itself), expected, atol=1e-13)
    none = [stats.hypergeom.pmf(0, 49, k, round(50 * fraction) - itself) for k in t]
    np.testing.assert_allclose(law.none_in(12, itself), none, atol=1e-13)


def test_coins_are_independent() -> None:
    law = SubsetLaw(50, subset_fraction=0.7, design="bernoulli")
    assert law.rate(0) == law.rate(1) == 0.7
    assert (law.weights(4, 1) == 1).all()
    np.testing.assert_allclose(law.none_in(3, 0), [1, 0.3, 0.09, 0.027])


def test_zipf_weights() -> None:
    np.testing.assert_allclose(zipf_weights(3, 1.0), np.array([6, 3, 2]) / 11)
    np.testing.assert_allclose(zipf_weights(4, 0.0), 0.25)
    with pytest.raises(ArgumentError, match="exponent"):
        zipf_weights(4, float("nan"))


def test_public_names() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    assert all(hasattr(testing, name) for name in testing.__all__)
