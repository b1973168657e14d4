"""Intervals against statsmodels, scipy and figures solved by hand, and their algebra."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional import intervals

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "intervals.json").read_text())
TWO_SAMPLE = [intervals.newcombe, intervals.agresti_caffo, intervals.wald_difference]
counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize("case", GOLDEN["one_proportion_95"], ids=lambda c: f"{c['method']}-{c['k']}-{c['n']}")
def test_one_proportion_golden(case) -> None:
    low, high = getattr(intervals, case["method"])(case["k"], case["n"])
    assert [float(low), float(high)] == pytest.approx([case["lo"], case["hi"]], abs=1e-9)


@pytest.mark.parametrize("case", GOLDEN["two_independent_95"], ids=lambda c: f"{c['k1']}-{c['k2']}")
@pytest.mark.parametrize(
    ("key", "function"),
    [("wald", intervals.wald_difference), ("agresti-caffo", intervals.agresti_caffo), ("newcomb", intervals.newcombe)],
)
def test_two_samples_golden(case, key, function) -> None:
    found = function(case["k1"], case["n1"], case["k2"], case["n2"])
    assert [float(x) for x in found] == pytest.approx(case[key], abs=1e-9)


@pytest.mark.parametrize("case", GOLDEN["paired_95"], ids=lambda c: f"{c['a']}-{c['b']}-{c['c']}-{c['d']}")
def test_paired_golden(case) -> None:
    a, b, c, d = (case[name] for name in "abcd")
    assert [float(x) for x in intervals.paired_newcombe(a, b, c, d)] == pytest.approx(case["newcombe10"], abs=1e-9)
    assert [float(x) for x in intervals.tango(b, c, a + b + c + d)] == pytest.approx(case["tango"], abs=1e-9)


def test_paired_without_discordance() -> None:
    assert intervals.paired_newcombe(25, 0, 0, 25)[1] == pytest.approx(0.038, abs=5e-4)
    assert intervals.paired_newcombe(50, 0, 0, 0)[1] == pytest.approx(0.071, abs=5e-4)
    assert [float(x) for x in intervals.paired_newcombe(25, 0, 0, 25, correction="none")] == pytest.approx(
        [0, 0], abs=1e-7
    )
    assert intervals.tango(0, 0, 50)[1] == pytest.approx(0.071, abs=5e-4)


@settings(deadline=None, max_examples=60)
@given(first=counts, second=counts)
@pytest.mark.parametrize("function", TWO_SAMPLE)
def test_swapping_the_samples_mirrors_the_interval(function, first, second) -> None:
    low, high = function(*first, *second)
    other_low, other_high = function(*second, *first)
    assert (low, high) == (pytest.approx(-other_high, abs=1e-12), pytest.approx(-other_low, abs=1e-12))
    assert -1 <= low <= high <= 1


@settings(deadline=None, max_examples=60)
@given(cells=st.tuples(*[st.integers(0, 20)] * 4).filter(lambda x: sum(x) > 0))
def test_paired_intervals_mirror_and_hold_the_estimate(cells) -> None:
    a, b, c, d = cells
    n = a + b + c + d
    for (low, high), (other_low, other_high) in (
        (intervals.paired_newcombe(a, b, c, d), intervals.paired_newcombe(a, c, b, d)),
        (intervals.tango(b, c, n), intervals.tango(c, b, n)),
    ):
        assert float(low) == pytest.approx(-float(other_high), abs=1e-9)
        assert float(high) == pytest.approx(-float(other_low), abs=1e-9)
        assert low - 1e-9 <= (b - c) / n <= high + 1e-9


@settings(deadline=None, max_examples=40)
@given(cell=counts)
def test_wider_level_is_wider_and_holds_the_estimate(cell) -> None:
    k, n = cell
    for function in (intervals.wilson, intervals.clopper_pearson):
        low, high = function(k, n, level=0.9)
        wide_low, wide_high = function(k, n, level=0.99)
        assert 0 <= wide_low <= low <= k / n <= high <= wide_high <= 1


def test_tango_solves_its_equation() -> None:
    b, c, n = 12.0, 4.0, 100.0
    for delta in intervals.tango(b, c, n):
        big_b, big_c = -b - c + (2 * n - b + c) * delta, -c * delta * (1 - delta)
        q = (np.sqrt(big_b**2 - 8 * n * big_c) - big_b) / (4 * n)
        assert abs((b - c - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta)))) == pytest.approx(
            1.959964, abs=1e-5
        )


@pytest.mark.parametrize("function", TWO_SAMPLE)
def test_empty_samples_are_nan_and_shapes_broadcast(function) -> None:
    low, high = function(torch.tensor([1, 0]), np.array([2, 0]), [[1], [0]], [[3], [0]])
    assert low.shape == high.shape == (2, 2)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [[False, True], [True, True]]


def test_empty_is_nan_for_the_rest() -> None:
    results = (
        intervals.wilson(0, 0),
        intervals.clopper_pearson(0, 0),
        intervals.tango(0, 0, 0),
        intervals.paired_newcombe(0, 0, 0, 0),
        intervals.welch_floor(np.nan, np.nan, 0, 0.5, 0.1, 3),
    )
    assert np.isnan(np.array(results)).all()


def test_welch_floor_has_the_standard_error_of_agresti_caffo() -> None:
    low, high = intervals.welch_floor(0.9, 0.09, 1e6, 0.4, 0.24, 1e6)
    assert [float(low), float(high)] == pytest.approx(
        [float(x) for x in intervals.agresti_caffo(9e5, 1e6, 4e5, 1e6)], abs=1e-7
    )
    low, high = intervals.welch_floor(1.0, 0.0, 30, 1.0, 0.0, 30)
    assert high - low > 0.1


def test_pseudo_counts_by_level_are_the_published_ones_up_to_95_and_wider_beyond() -> None:
    cell = (25, 35, 3, 15)
    assert intervals.agresti_caffo(*cell, pseudo_counts="level") == intervals.agresti_caffo(*cell)
    low, high = intervals.agresti_caffo(35, 35, 0, 15, level=0.999)
    wide_low, wide_high = intervals.agresti_caffo(35, 35, 0, 15, level=0.999, pseudo_counts="level")
    assert wide_low < low < high == wide_high == 1.0
    z = 3.2905267314919255
    p1, n1, p2, n2 = (35 + z**2 / 4) / (35 + z**2 / 2), 35 + z**2 / 2, z**2 / 4 / (15 + z**2 / 2), 15 + z**2 / 2
    assert wide_low == pytest.approx(p1 - p2 - z * np.sqrt(p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2), abs=1e-9)
