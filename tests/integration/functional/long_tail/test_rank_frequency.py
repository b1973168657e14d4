import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_memaudit.functional.long_tail import fit_tail, rank_frequency

GOLDEN = json.loads((Path(__file__).parents[3] / "golden/tail_fit.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['name']}-{case['given_xmin']}")
def test_fits_are_those_of_another_package(case) -> None:
    fit = fit_tail(np.repeat(case["values"], case["times"]), xmin=case["given_xmin"], n_replicates=0)
    assert fit.xmin == case["xmin"]
    for name in ("exponent", "distance", "mu", "sigma", "p_value"):
        assert getattr(fit, name) == pytest.approx(case[name], abs=1e-3), name
    assert fit.ratio * fit.n_tail == pytest.approx(case["ratio"], abs=1e-3)


def test_the_interval_of_the_exponent_covers() -> None:
    rng = np.random.default_rng(0)
    fits = [fit_tail(rng.zipf(2.2, size=150), xmin=1, n_replicates=0) for _ in range(80)]
    covered = np.mean([fit.low <= 2.2 <= fit.high for fit in fits])
    assert 0.92 <= covered <= 0.98
    assert np.mean([fit.verdict == "log-normal" for fit in fits]) < 0.06


def test_a_log_normal_is_told_from_a_power_law() -> None:
    counts = np.random.default_rng(0).lognormal(4, 0.8, size=400).round() + 1
    fit = fit_tail(counts, xmin=1)
    assert fit.verdict == "log-normal"
    assert fit.ratio_high < 0
    assert fit.p_value < 1e-6
    assert fit.atoms_needed < fit.n_tail


def test_few_atoms_decide_nothing_and_the_number_that_would_is_said() -> None:
    fit = fit_tail(np.random.default_rng(0).zipf(2.0, size=40), xmin=1)
    assert fit.verdict == "undecided"
    assert fit.ratio_low < 0 < fit.ratio_high
    assert fit.atoms_needed > fit.n_tail


@pytest.mark.parametrize("counts", [[1] * 9, [5] * 100, [1, 2] * 50, [3]])
def test_too_few_is_said_and_nothing_is_made_up(counts) -> None:
    fit = fit_tail(counts)
    assert fit.verdict == "too few"
    assert math.isnan(fit.exponent)
    assert math.isnan(fit.p_value)
    assert "a tail is fitted to 10 atoms and 3 counts or more" in fit.note


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60).filter(any))
def test_ranks_and_frequencies(counts) -> None:
    ranks, frequencies = rank_frequency(counts)
    assert ranks.tolist() == list(range(1, sum(count > 0 for count in counts) + 1))
    assert frequencies.sum() == pytest.approx(1)
    assert (np.diff(frequencies) <= 0).all()
    assert frequencies[0] == pytest.approx(max(counts) / sum(counts))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**16), st.integers(10, 60))
def test_a_fit_is_finite_or_says_why(seed, n) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.zipf(rng.uniform(1.3, 4), size=n) if seed % 2 else rng.integers(1, 50, size=n)
    fit = fit_tail(np.minimum(counts, 10**7), n_replicates=3)
    if fit.verdict != "too few":
        assert 1 < fit.low <= fit.exponent <= fit.high <= 12
        assert np.isfinite([fit.mu, fit.sigma, fit.ratio, fit.p_value, fit.distance]).all()
        assert fit.n_tail >= 10


@pytest.mark.parametrize(
    "counts", [np.arange(1, 200), np.arange(1000, 1020), np.random.default_rng(0).poisson(50, size=300)]
)
def test_counts_without_a_tail_are_given_neither_law(counts) -> None:
    fit = fit_tail(counts)
    assert fit.verdict == "neither"
    assert fit.note
    assert np.isnan(fit.atoms_needed)


def test_goodness_of_fit_accepts_its_own_law_and_rejects_others() -> None:
    rng = np.random.default_rng(3)
    own = [fit_tail(rng.zipf(2.3, size=300), xmin=1, n_replicates=39).fit_p for _ in range(40)]
    assert 0.01 <= np.mean(np.array(own) < 0.1) <= 0.25
    others = [fit_tail(1 + rng.poisson(3, size=300), xmin=1, n_replicates=99).fit_p for _ in range(3)]
    assert max(others) < 0.02


def test_the_distance_of_the_log_normal_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(4)
    counts = np.maximum(np.rint(rng.lognormal(1.5, 0.8, size=400)), 1).astype(int)
    fit = fit_tail(counts, xmin=2)
    tail = counts[counts >= 2]
    law = stats.lognorm(fit.sigma, scale=np.exp(fit.mu))
    below = np.array([(law.cdf(x + 0.5) - law.cdf(1.5)) / law.sf(1.5) for x in range(2, tail.max() + 1)])
    empirical = np.array([(tail <= x).mean() for x in range(2, tail.max() + 1)])
    seen = np.isin(np.arange(2, tail.max() + 1), tail)
    assert fit.log_normal_distance == pytest.approx(np.abs(below - empirical)[seen].max(), abs=1e-12)
    assert fit.log_normal_p > 0.1
