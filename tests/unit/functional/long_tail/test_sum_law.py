"""The law of the sum: enumeration against all sequences, the transform against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.long_tail._sum_law import enumerated_sum, fourier_sum, lattice_sum, sum_law

VALUES, WEIGHTS = np.array([0.5, 0.3, 0.11, 0.0]), np.array([0.1, 0.2, 0.3, 0.4])


def mean(law, function) -> float:
    return float(law.probabilities @ function(law.sums))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_enumeration_is_all_sequences(count: int) -> None:
    law = enumerated_sum(VALUES, WEIGHTS, count)
    assert law.probabilities.sum() == pytest.approx(1.0, abs=1e-14)
    assert law.unresolved == 0.0
    for function in (np.square, lambda r: np.exp(-7 * r), lambda r: 1 / (r + 0.1)):
        exact = sum(
            np.prod([WEIGHTS[i] for i in draws]) * function(sum(VALUES[i] for i in draws))
            for draws in itertools.product(range(4), repeat=count)
        )
        assert mean(law, function) == pytest.approx(exact, rel=1e-13)


def test_the_transform_is_the_enumeration() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.random(3) + 0.2, np.array([0.3, 0.3, 0.4])
    exact, found = enumerated_sum(values, weights, 400), fourier_sum(values, weights, 400)
    centre = 400 * float(weights @ values)
    errors = []
    for power in (-30.0, 1.0, 30.0, 60.0, 300.0):
        # smooth on the scale of the law, as (R / (p + R))^b is
        def function(r, power=power):
            return np.exp(-power * centre / r + power)

        error = mean(found, function) - mean(exact, function)
        assert abs(error) <= found.unresolved * function(exact.sums).max() + 1e-11 * mean(exact, function)
        errors.append(abs(error) / mean(exact, function))
    assert max(errors[:4]) < 1e-11
    assert errors[4] > 1e-3  # it hangs on sums 7 standard deviations off, of probability below 1e-13


@pytest.mark.parametrize("values", [[1.0, 2, 7], [0.3, 0.5, 0.0], [3e-7, 2e-7, 7e-7]])
def test_the_lattice_is_the_enumeration(values: list[float]) -> None:
    levels, weights = np.array(values), np.array([0.5, 0.3, 0.2])
    exact, found = enumerated_sum(levels, weights, 60), lattice_sum(levels, weights, 60)
    assert (np.diff(found.sums) > 0).all()
    for value, chance in zip(found.sums, found.probabilities, strict=True):
        there = np.isclose(exact.sums, value, rtol=1e-9, atol=1e-9 * max(values))
        assert chance == pytest.approx(exact.probabilities[there].sum(), abs=1e-14)


def test_no_lattice() -> None:
    assert lattice_sum(np.array([1.0, np.pi]), np.array([0.5, 0.5]), 10) is None
    assert lattice_sum(np.array([1.0, 1e7]), np.array([0.5, 0.5]), 10) is None  # too many cells


def test_two_values_need_no_list_of_all_counts() -> None:
    # rare and frequent: 1e8 draws, about 10 of them the rare value
    law = sum_law(np.array([0.05, 5e-9]), np.array([1e-7, 1 - 1e-7]), 10**8 - 1)
    assert len(law.sums) < 200
    assert law.probabilities.sum() == pytest.approx(1.0, abs=1e-12)
    assert mean(law, lambda r: r) == pytest.approx((10**8 - 1) * (0.05e-7 + 5e-9 * (1 - 1e-7)), rel=1e-12)


def test_three_values_with_rare_ones_are_enumerated_at_any_number_of_draws() -> None:
    weights = np.array([1e-6, 5e-6, 1 - 6e-6])
    law = enumerated_sum(np.array([0.2, 0.03, 1e-7]), weights, 10**6 - 1)
    assert len(law.sums) < 20_000
    assert law.probabilities.sum() == pytest.approx(1.0, abs=1e-9)


def test_what_cannot_be_resolved_is_refused() -> None:
    values = np.concatenate([[0.4, 0.3, 0.27, 0.25], np.full(4, 1e-8) + 1e-13 * np.arange(4)])
    weights = np.concatenate([np.full(4, 1e-5), np.full(4, (1 - 4e-5) / 4)])
    with pytest.raises(
        ArgumentError, match=r"prior=float64\[8\]: frequencies .*100000 draws.* smooth law.*mode='list'"
    ):
        sum_law(values, weights, 10**5)
