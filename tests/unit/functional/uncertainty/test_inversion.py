from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.impact import accuracy_drop, error_rate
from lightning_memaudit.functional.uncertainty import OneSided, form_of, joined, one_sided_p_value, take


@dataclass(frozen=True)
class Student:
    """Estimates whose errors have Student's t."""

    estimate: np.ndarray
    df: np.ndarray

    def half_widths(self, tail):
        return (stats.t.isf(tail, self.df),) * 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-8, 8), min_size=1, max_size=5), st.floats(-3, 3), st.sampled_from([1.0, 2.0, 7.0, 200.0]))
def test_a_known_law_is_inverted(estimates, margin, df) -> None:
    estimate = np.array(estimates)
    found = Student(estimate, np.full(len(estimate), df))
    greater, less = (one_sided_p_value(found, margin, alternative=tail) for tail in ("greater", "less"))
    np.testing.assert_allclose(greater, stats.t.sf(estimate - margin, df), rtol=1e-7)
    np.testing.assert_allclose(less, stats.t.cdf(estimate - margin, df), rtol=1e-7)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.6, 0.95, 1.0]), st.floats(-0.3, 0.6), st.sampled_from([0.05, 0.001])
)
def test_p_is_below_alpha_where_the_bound_is_above_the_margin(seed, accuracy, margin, alpha) -> None:
    rng = np.random.default_rng(seed)
    base, treated = rng.random((4, 90)) < accuracy, rng.random((4, 90)) < accuracy - 0.2
    codes = np.arange(90) % 3
    for found in (OneSided(accuracy_drop(base, treated, codes, paired=True).two_way), error_rate(base, codes).gap):
        down, up = found.half_widths(np.asarray(alpha))
        p, q = found.p_value(margin), found.p_value(margin, alternative="less")
        clear = np.abs(found.estimate - down - margin) > 1e-6
        assert ((p < alpha) == (found.estimate - down > margin))[clear].all()
        clear = np.abs(found.estimate + up - margin) > 1e-6
        assert ((q < alpha) == (found.estimate + up < margin))[clear].all()


def test_margins_may_differ_and_what_is_far_has_the_least_p() -> None:
    found = Student(np.array([1.0, 1.0, 1e9]), np.full(3, 1e6))
    p = one_sided_p_value(found, np.array([0.0, 2.0, 0.0]))
    assert p[:2] == pytest.approx([stats.norm.sf(1), stats.norm.sf(-1)], rel=1e-5)
    assert 0 < p[2] < 1e-190
    unknown = Student(np.zeros(2), np.array([np.nan, 3.0]))
    assert np.isnan(one_sided_p_value(unknown, 0.1)).tolist() == [True, False]
    with pytest.raises(ArgumentError, match="alternative"):
        one_sided_p_value(found, 0.0, alternative="two-sided")


def test_joined_estimates_are_judged_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    parts = [
        OneSided(
            accuracy_drop(rng.random((k, 60)) < 0.9, rng.random((k, 60)) < 0.7, np.arange(60) % g, paired=True).two_way
        )
        for k, g in ((4, 3), (7, 2))
    ]
    assert form_of(parts[0]) == form_of(parts[1])
    both = joined(parts)
    np.testing.assert_allclose(both.p_value(0.1), np.concatenate([part.p_value(0.1) for part in parts]), rtol=1e-8)
    np.testing.assert_array_equal(take(both, np.array([4, 0])).n, [parts[1].n[1], parts[0].n[0]])
    unpaired = OneSided(accuracy_drop(rng.random((4, 60)) < 0.9, rng.random((5, 60)) < 0.7, np.zeros(60, int)).two_way)
    assert form_of(unpaired) != form_of(parts[0])
    assert form_of(OneSided(parts[0].two_way, one_way=True)) != form_of(parts[0])


@pytest.mark.parametrize("n_wrong", [1, 2, 5, 20, 49, 50])
@pytest.mark.parametrize("margin", [0.0, 0.001, 0.02, 0.3])
def test_counts_of_one_model_have_binomial_p_values(n_wrong, margin) -> None:
    """However small the p-values are: bounds at the smallest errors are at the ends of [0, 1], and not unknown."""
    right = np.arange(50)[None] >= n_wrong
    found = OneSided(error_rate(right, np.zeros(50, dtype=int)).error, one_way=True)
    p = found.p_value(margin)[0]
    exact = stats.binom.sf(n_wrong - 1, 50, margin)
    assert p == pytest.approx(exact, rel=1e-6, abs=1e-80) if exact < 0.5 else p >= 0.5
    assert np.isfinite(np.array(found.half_widths(np.array([1e-190])))).all()
