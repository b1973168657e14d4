"""Marginals in both modes, against all draws, closed forms and a route by generating functions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional import long_tail
from lightning_memaudit.functional.long_tail import marginal

LISTS = {
    "thirds": long_tail.from_frequencies([2, 1, 1]),
    "zipf": long_tail.zipf(5, 1.3),
    "with zeros": long_tail.from_frequencies([0, 0, 3, 1]),
    "one": long_tail.uniform(1),
    "one seen": long_tail.from_frequencies([0, 0, 0, 1]),
}


def moment(law: long_tail.Marginal, a: int, b: int, **options) -> float:
    return math.exp(law.log_moment(a, b, **options))


def all_draws(prior: long_tail.Prior, a: int, b: int) -> float:
    """E[α^a (1 − α)^b] over every sequence of draws; all-zero draws are conditioned away."""
    listed = np.repeat(prior.frequencies, prior.multiplicity.astype(int)).tolist()
    sequences = [draws for draws in itertools.product(listed, repeat=len(listed)) if any(draws)]
    alphas = [draws[0] / math.fsum(draws) for draws in sequences]
    return math.fsum(alpha**a * (1 - alpha) ** b for alpha in alphas) / len(alphas)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (0, 3), (1, 4), (3, 2)])
def test_iid_is_all_draws(name: str, a: int, b: int) -> None:
    exact = all_draws(LISTS[name], a, b)
    law = marginal(LISTS[name], mode="iid")
    assert moment(law, a, b) == pytest.approx(exact, rel=1e-12)


def by_generating_functions(p: np.ndarray, n: int, a: int) -> float:
    """E[p^a R^b / (p + R)^(a + b)] with b = n + 1 − a, by Poisson counts: no law of the sum, no quadrature in p.

    = b! / (a + b − 1)! ∫ s^(a − 1) E[p^a e^(−sp)] P(S_s = b) ds, where S_s sums Poisson(s p_x) over the N − 1 others
    and its probability is a Cauchy integral of its generating function.
    """
    n_points, b, total = len(p), n + 1 - a, 0.0
    p = p / p.sum()
    rates, angles = np.linspace(0.02 * n, 9 * n, 300), np.linspace(0, np.pi, 1000)
    for s in rates:
        generating = np.exp(np.outer(np.expm1(1j * angles), s * p)).mean(axis=1)
        values = (generating ** (n_points - 1) * np.exp(-1j * angles * b)).real
        chance = (angles[1] - angles[0]) / np.pi * (values.sum() - (values[0] + values[-1]) / 2)
        total += s ** (a - 1) * (p**a * np.exp(-s * p)).mean() * chance
    return (rates[1] - rates[0]) * total * math.exp(math.lgamma(b + 1) - math.lgamma(a + b))


@pytest.mark.parametrize("a", [1, 2])
def test_iid_by_transform_is_the_route_by_generating_functions(a: int) -> None:
    prior, n = long_tail.zipf(40, 0.7), 60
    law = marginal(prior, mode="iid")
    assert law.unresolved == pytest.approx(1e-13)
    assert moment(law, a, n + 1 - a) == pytest.approx(by_generating_functions(prior.frequencies, n, a), rel=1e-12)


@pytest.mark.parametrize("n_points", [5000, 10**7])
def test_compressed_iid_keeps_the_mean_and_tends_to_the_list(n_points: int) -> None:
    prior = long_tail.zipf(n_points)
    iid, listed = marginal(prior, mode="iid"), marginal(prior)
    assert len(iid.values) < 20_000
    assert moment(iid, 1, 0) * n_points == pytest.approx(1.0, abs=1e-12)
    # a random sum shifts the figures by a few of its squared standard deviations, Σ p²
    shift = math.exp(iid.log_moment(1, n_points) - listed.log_moment(1, n_points)) - 1
    assert 0 < abs(shift) < 3 * float(prior.multiplicity @ prior.frequencies**2)


def test_what_is_not_resolved_is_nan() -> None:
    law = marginal(long_tail.zipf(5000), mode="iid")
    assert math.isnan(law.log_moment(1, 10**8))  # hangs on sums that never occur
    assert math.isnan(law.log_moment(30_000, 10**6))  # finer than the atoms
    assert math.isfinite(law.log_moment(1, 50_000))
    assert math.isfinite(marginal(long_tail.zipf(5000)).log_moment(1, 10**8))


def test_iid_of_a_table_of_counts_is_what_draws_show() -> None:
    counts = np.array([500, 300, 120, 80, 40, 22, 17, 10, 7, 5, 5, 3, 3, 2, 2, 2] + [1] * 184)
    law = marginal(long_tail.from_frequencies(counts), mode="iid")
    assert moment(law, 1, 0) * len(counts) == pytest.approx(1.0, rel=1e-12)
    drawn = np.random.default_rng(0).choice(counts, size=(40_000, len(counts)))
    alphas = drawn[:, 0] / drawn.sum(axis=1)
    for a, b in ((0, 400), (1, 399), (2, 0)):
        values = alphas**a * (1 - alphas) ** b
        assert abs(values.mean() - moment(law, a, b)) < 4 * values.std() / 200


PRIORS = st.one_of(
    st.builds(long_tail.zipf, st.integers(1, 300), st.floats(0, 3)),
    st.builds(long_tail.uniform, st.integers(1, 10**9)),
    st.integers(2, 10**6).flatmap(
        lambda n: st.builds(long_tail.two_level, st.just(n), st.integers(1, n - 1), st.floats(0.01, 0.99))
    ),
    st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any).map(long_tail.from_frequencies),
)


@settings(deadline=None, max_examples=60)
@given(PRIORS)
def test_the_mean_of_alpha_is_one_over_n(prior: long_tail.Prior) -> None:
    assert moment(marginal(prior), 1, 0) == pytest.approx(1 / prior.n_points)
    assert marginal(prior).weight(0, 1) == pytest.approx(1.0)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12).filter(any).map(long_tail.from_frequencies))
def test_the_mean_of_alpha_is_one_over_n_in_iid(prior: long_tail.Prior) -> None:
    assert moment(marginal(prior, mode="iid"), 1, 0) == pytest.approx(1 / prior.n_points)


def test_dirichlet_is_beta() -> None:
    law = marginal(long_tail.dirichlet(50, 0.3), mode="iid")
    assert moment(law, 1, 0) == pytest.approx(0.02)
    assert moment(law, 2, 0) == pytest.approx(0.02 * 1.3 / 16)
    assert law.weight(0, 1) == pytest.approx(1.0)
    assert law.weight(-1, 2) == pytest.approx(1.0)
    assert law.weight(0.1, 0.05) == 0.0
    draws = np.random.default_rng(0).beta(0.3, 49 * 0.3, 200_000)
    for low, high in ((0, 0.02), (0.05, 0.2)):
        assert law.weight(low, high) == pytest.approx(50 * (draws * ((draws > low) & (draws < high))).mean(), abs=0.01)
    assert marginal(long_tail.dirichlet(1, 0.3), mode="iid").log_moment(5, 0) == 0.0


@pytest.mark.parametrize("thinning", [0.02, 0.5, 0.999])
def test_thinning_is_the_mean_over_a_binomial_size(thinning: float) -> None:
    rng = np.random.default_rng(0)
    draws = rng.beta(0.5, 19.5, 200_000)
    exact = (draws * (1 - thinning * draws) ** 30).mean()
    error = (draws * (1 - thinning * draws) ** 30).std() / 200_000**0.5
    beta = marginal(long_tail.dirichlet(40, 0.5), mode="iid")
    assert abs(moment(beta, 1, 30, thinning=thinning) - exact) < 4 * error
    law = marginal(long_tail.zipf(7))
    exact = float((law.values * (1 - thinning * law.values) ** 30).mean())
    assert moment(law, 1, 30, thinning=thinning) == pytest.approx(exact)
