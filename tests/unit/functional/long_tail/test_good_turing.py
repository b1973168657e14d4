"""Good–Turing against plain counting, published figures and the coverage of its intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional.long_tail import (
    from_frequencies,
    good_turing,
    good_turing_missing_mass,
    good_turing_tau,
    marginal,
    missing_mass,
    tau,
    zipf,
)

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "long_tail.json").read_text())
PROSODY = np.repeat(GOLDEN["prosody"]["levels"], GOLDEN["prosody"]["points"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=60).filter(any))
def test_plug_in_is_a_ratio_of_plain_counts(counts: list[int]) -> None:
    n = sum(counts)
    ells = [ell for ell in range(16) if ell in counts and ell <= n]
    expected = [(ell + 1) / n * counts.count(ell + 1) / counts.count(ell) for ell in ells]
    assert good_turing_tau(counts, ells) == pytest.approx(expected)
    assert good_turing_tau(torch.tensor(counts), torch.tensor(ells)) == pytest.approx(expected)


def test_simple_good_turing_is_that_of_gale() -> None:
    levels = np.array(GOLDEN["prosody"]["levels"])
    found = PROSODY.sum() * good_turing_tau(PROSODY, levels, smoothing="simple")
    assert found == pytest.approx(np.array(GOLDEN["prosody"]["r_star"]), rel=2e-6)
    assert good_turing_missing_mass(PROSODY).estimate == pytest.approx(GOLDEN["prosody"]["p0"], rel=1e-6)
    seen = (found / PROSODY.sum()) @ GOLDEN["prosody"]["points"]
    assert seen == pytest.approx(1 - GOLDEN["prosody"]["p0"])
    between = PROSODY.sum() * good_turing_tau(PROSODY, [10, 11, 12], smoothing="simple")
    assert (np.diff(between) > 0.9).all()  # 11 does not occur


def test_simple_good_turing_takes_ratios_while_they_differ_from_the_line() -> None:
    # counts 2 and 4 are missing, so the ratio cannot be used past 1: all are on the line
    counts = np.repeat([1, 3, 5, 6, 8, 11], [300, 40, 12, 9, 4, 2])
    r = np.array([1.0, 3, 5, 6, 8, 11])
    z = np.array([300 / 1.5, 40 / 2, 12 / 1.5, 9 / 1.5, 4 / 2.5, 2 / 3])
    slope = np.polyfit(np.log(r), np.log(z), 1)[0]
    line = r * (1 + 1 / r) ** (slope + 1)
    n = counts.sum()
    expected = line * (1 - 300 / n) / (np.array([300, 40, 12, 9, 4, 2]) @ line)
    assert good_turing_tau(counts, r.astype(int), smoothing="simple") == pytest.approx(expected)


def test_what_cannot_be_told_is_nan_with_a_note() -> None:
    with pytest.warns(RuntimeWarning, match=r"ell = 3 is NaN: no point was seen ell = 3 times"):
        found = good_turing_tau([1, 1, 2, 4], [1, 3])
    assert np.isnan(found).tolist() == [False, True]
    with pytest.warns(RuntimeWarning, match="ell = 0"):
        assert np.isnan(good_turing_tau([1, 2], 0))
    assert float(good_turing_tau([0, 0, 1, 2], 0)) == pytest.approx(1 / 6)
    with pytest.warns(RuntimeWarning, match="5 different counts"):
        assert np.isnan(good_turing_tau([1, 2, 3], 1, smoothing="simple"))
    with pytest.warns(RuntimeWarning, match="falls faster"):
        assert np.isnan(good_turing_tau([1, 2, 3, 4, 5, 6], 1, smoothing="simple"))
    table = good_turing([1, 1, 2, 4], [1, 3])
    assert table.method == ("conditional", "none")
    assert "ell = 3" in table.note
    assert np.isnan([table.low[1], table.high[1]]).all()
    assert good_turing([1, 1, 2, 2], [1]).note == ""


def test_nothing_seen_again_does_not_mean_no_width() -> None:
    table = good_turing([1] * 8 + [9], [1])
    assert table.tau[0] == 0.0
    assert table.low[0] == 0.0
    # Clopper–Pearson of 0 of 8: odds of 1 − .025^(1/8)
    assert table.high[0] == pytest.approx(2 / 17 * (0.025 ** (-1 / 8) - 1))
    missing = good_turing_missing_mass([5, 7, 9])
    assert (missing.estimate, missing.low) == (0.0, 0.0)
    assert missing.high == pytest.approx(-np.log(0.025) / 21)
    assert good_turing_missing_mass([1, 1, 1]).high == 1.0


def test_the_bootstrap_is_that_over_points() -> None:
    counts = np.repeat([1, 2, 3, 50], [300, 90, 40, 3])
    found = good_turing(counts, [1, 2], n_bootstrap=4000, level=0.9)
    assert found.method == ("bootstrap", "bootstrap")
    rng = np.random.default_rng(1)
    drawn = rng.choice(counts, size=(4000, len(counts)))
    for index, ell in enumerate((1, 2)):
        ratio = (ell + 1) / counts.sum() * (drawn == ell + 1).sum(1) / (drawn == ell).sum(1)
        assert [found.low[index], found.high[index]] == pytest.approx(np.quantile(ratio, [0.05, 0.95]), rel=0.02)
    assert good_turing(counts, [1], seed=3).low == good_turing(counts, [1], seed=3).low
    smooth = good_turing(PROSODY, [1, 30], smoothing="simple", n_bootstrap=200)
    assert (smooth.low < smooth.tau).all()
    assert (smooth.tau < smooth.high).all()


@pytest.mark.parametrize(("n_points", "n", "mode"), [(1000, 600, "list"), (300, 3000, "iid")])
def test_coverage(n_points: int, n: int, mode: str) -> None:
    """Of τ_ℓ of the population's own list, of τ_ℓ of the prior, and of the missing mass of the sample itself."""
    repeats, rng, ells = 400, np.random.default_rng(0), np.array([1, 2, 4, 6])
    prior = zipf(n_points)
    of_prior = tau(marginal(prior, mode=mode), n, ells)
    covered, prior_covered, mass_covered, widths, methods, biases = [], [], [], [], [], []
    for seed in range(repeats):
        drawn = prior.frequencies if mode == "list" else rng.choice(prior.frequencies, size=n_points)
        frequencies = drawn / drawn.sum()
        own = marginal(from_frequencies(frequencies))
        counts = rng.multinomial(n, frequencies)
        found = good_turing(counts[counts > 0], ells, n_bootstrap=1000, seed=seed)
        unknown = np.isnan(found.tau)
        covered.append((found.low <= (truth := tau(own, n, ells))) & (truth <= found.high) | unknown)
        prior_covered.append((found.low <= of_prior) & (of_prior <= found.high) | unknown)
        widths.append(found.high - found.low)
        methods.append([method == "bootstrap" for method in found.method])
        missing = good_turing_missing_mass(counts)
        mass_covered.append(missing.low <= frequencies[counts == 0].sum() <= missing.high)
        biases.append(missing.estimate - missing_mass(own, n))
    shares, bootstrap = np.mean(covered, axis=0), np.mean(methods, axis=0)
    print(f"{mode} {n_points} {n}: tau_1, 2, 4, 6 covered {shares.round(3)}, bootstrap used {bootstrap.round(2)}")
    print(f"  of the prior {np.mean(prior_covered, axis=0).round(3)}, missing mass {np.mean(mass_covered):.3f}")
    error = 3 * (0.05 * 0.95 / repeats) ** 0.5
    assert (shares > 0.94 - error).all()
    assert np.mean(mass_covered) > 0.95 - error
    assert bootstrap[0] == 1.0
    assert bootstrap[-1] < 1.0  # so both intervals are put to the test
    assert np.nanmedian(widths, axis=0)[0] < truth[0]  # and they say something
    assert abs(np.mean(biases)) < 4 * np.std(biases) / repeats**0.5 + 0.1 * truth[0]
    if n == 3000:
        assert np.mean(prior_covered, axis=0)[0] < 0.91  # as documented
