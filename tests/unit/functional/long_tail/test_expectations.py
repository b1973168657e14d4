"""τ_ℓ and its kin: golden figures, brute force, identities."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional.long_tail import (
    Marginal,
    dirichlet,
    expected_count,
    expected_mass,
    from_frequencies,
    marginal,
    missing_mass,
    optimal_error,
    tau,
    two_level,
    uniform,
    zipf,
)

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "long_tail.json").read_text())
SMALL = GOLDEN["tau_small"]


@cache
def zipf_iid(n_points: int) -> Marginal:
    return marginal(zipf(n_points), mode="iid")


LAWS = st.one_of(
    st.builds(zipf, st.integers(1, 60), st.floats(0, 3)).map(marginal),
    st.builds(zipf, st.integers(1, 6), st.floats(0, 3)).map(lambda prior: marginal(prior, mode="iid")),
    st.builds(dirichlet, st.integers(2, 60), st.floats(0.05, 5)).map(lambda prior: marginal(prior, mode="iid")),
    st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any).map(from_frequencies).map(marginal),
)


@pytest.mark.parametrize("mode", ["list", "iid"])
@pytest.mark.parametrize(("name", "prior"), [("uniform_N8", uniform(8)), ("zipf_N8", zipf(8))])
def test_golden_small(name: str, prior, mode: str) -> None:
    law, case = marginal(prior, mode=mode), SMALL[name]
    assert tau(law, 10, np.arange(5)) == pytest.approx([case[f"tau_{ell}_{mode}"] for ell in range(5)], rel=1e-9)
    if mode == "iid":
        assert float(expected_count(law, 10, 1)) == pytest.approx(case["E_singletons_iid"], rel=1e-9)
        assert missing_mass(law, 10) == pytest.approx(case["missing_mass_iid"], rel=1e-9)


def test_golden_dirichlet() -> None:
    case = SMALL["dirichlet_a0.3_N50_n40"]
    law = marginal(dirichlet(case["N"], case["a"]), mode="iid")
    assert tau(law, case["n"], np.arange(4)) == pytest.approx([case[f"tau_{ell}"] for ell in range(4)], rel=1e-9)


@pytest.mark.parametrize("case", GOLDEN["iid"].values(), ids=GOLDEN["iid"])
def test_golden_iid_at_size(case) -> None:
    law, n = zipf_iid(case["N"]), case["n"]
    assert missing_mass(law, n) == pytest.approx(case["missing_mass"], rel=1e-9)
    assert float(expected_count(law, n, 1)) == pytest.approx(case["E_singletons"], rel=1e-9)
    assert float(expected_mass(law, n, 1)) == pytest.approx(case["singleton_mass"], rel=1e-9)


def test_figures_of_a_lattice_are_right_to_two_in_a_million_only() -> None:
    errors = []
    for name, case in GOLDEN["iid_lattice"].items():
        if name != "note":
            law, n = zipf_iid(case["N"]), case["n"]
            errors.append(optimal_error(law, n, n_classes=10) / case["opt_iid"] - 1)
            errors.append(n * float(tau(law, n, 1)) / case["n_tau_1_iid"] - 1)
    print("relative to the lattice:", *(f"{error:.1e}" for error in errors))
    assert max(map(abs, errors)) < 2e-6


def test_by_hand() -> None:
    law = marginal(from_frequencies([2, 1, 1]))
    assert float(tau(law, 3, 1)) == pytest.approx(float(Fraction(17, 52)))  # (1/16 + 2·9/256) / (1/8 + 2·9/64)
    assert float(expected_count(law, 3, 1)) == pytest.approx(3 * float(Fraction(13, 32)))
    assert missing_mass(law, 3) == pytest.approx(float(Fraction(1, 16) + 2 * Fraction(27, 256)))


def test_the_counterexample_where_one_data_set_is_not_the_average() -> None:
    listed = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]
    draws = [[p / sum(d) for p in d] for d in itertools.product(listed, repeat=3)]
    seen_once = sum(a**2 * (1 - a) ** 2 for a, _, _ in draws) / sum(a * (1 - a) ** 2 for a, _, _ in draws)
    given_sample = sum(a * a * b * b for a, b, _ in draws) / sum(a * b * b for a, b, _ in draws)  # (x, y, y)
    found = float(tau(marginal(from_frequencies(listed_floats(listed)), mode="iid"), 3, 1))
    assert found == pytest.approx(float(seen_once), rel=1e-12)
    assert (round(found, 5), round(float(given_sample), 5)) == (0.33171, 0.33024)


def listed_floats(values: list[Fraction]) -> list[float]:
    return [float(value) for value in values]


@settings(deadline=None, max_examples=60)
@given(LAWS, st.integers(1, 60))
def test_identities(law: Marginal, n: int) -> None:
    ells = np.arange(n + 1)
    counts, masses = expected_count(law, n, ells), expected_mass(law, n, ells)
    assert math.exp(law.log_moment(1, 0)) == pytest.approx(1 / law.n_points)
    assert counts.sum() == pytest.approx(law.n_points)
    assert ells @ counts == pytest.approx(n)
    assert masses.sum() == pytest.approx(1.0)
    there = counts > 1e-200
    taus = tau(law, n, ells[there])
    assert taus * counts[there] == pytest.approx(masses[there], rel=1e-9)
    assert (np.diff(taus) >= -1e-12 * taus[1:]).all()
    # Good–Turing, exactly
    after = expected_count(law, n + 1, ells[there] + 1)
    assert taus == pytest.approx((ells[there] + 1) / (n + 1) * after / counts[there], rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 10**9), st.integers(1, 10**8), st.integers(0, 50), st.floats(0.01, 20))
def test_closed_forms(n_points: int, n: int, ell: int, concentration: float) -> None:
    ell = min(ell, n)
    assert float(tau(marginal(uniform(n_points)), n, ell)) == pytest.approx(1 / n_points, rel=1e-9)
    found = float(tau(marginal(dirichlet(n_points, concentration), mode="iid"), n, ell))
    assert found == pytest.approx((concentration + ell) / (n_points * concentration + n), rel=1e-9)


def test_two_levels_by_hand_at_size() -> None:
    law = marginal(two_level(10**8, 10, 0.5))
    light = 0.5 / (10**8 - 10)
    # the heavy points are seen 5e6 times, never once
    assert float(tau(law, 10**8, 1)) == pytest.approx(light, rel=1e-12)
    exact = (10**8 - 10) * 10**8 * light * math.exp((10**8 - 1) * math.log1p(-light))
    assert float(expected_count(law, 10**8, 1)) == pytest.approx(exact, rel=1e-12)


def test_shapes_and_tensors() -> None:
    law = marginal(zipf(9))
    assert tau(law, 5, torch.tensor([[0, 1], [2, 3]])).shape == (2, 2)
    assert expected_count(law, 5, 2).shape == ()


def test_zero_over_zero_is_nan_with_a_note() -> None:
    law = marginal(uniform(1))
    with pytest.warns(RuntimeWarning, match=r"ell = 0 times in 3 samples, so 0/0 gives NaN"):
        found = tau(law, 3, [0, 1, 3])
    assert np.isnan(found).tolist() == [True, True, False]
    assert expected_count(law, 3, [0, 1, 2, 3]).tolist() == [0, 0, 0, pytest.approx(1)]
    with pytest.warns(RuntimeWarning, match="does not resolve ell = 1 in 100000000 samples"):
        assert np.isnan(tau(zipf_iid(5000), 10**8, 1))
    with pytest.warns(RuntimeWarning, match="does not resolve ell = 0"):
        assert np.isnan(missing_mass(zipf_iid(5000), 10**8))
