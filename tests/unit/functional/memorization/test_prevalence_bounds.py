import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lightning_memaudit.functional.intervals import agresti_caffo
from lightning_memaudit.functional.memorization import (
    LOWER_TAIL,
    UPPER_TAIL,
    PrevalenceBounds,
    prevalence_bounds,
)
from lightning_memaudit.functional.memorization._prevalence_bounds import STRICTER


def upper_below(threshold):
    level = 1 - 2 * UPPER_TAIL / STRICTER
    return lambda *counts: agresti_caffo(*counts, level=level, pseudo_counts="level")[1] < threshold


def lower_above(threshold):
    return lambda *counts: agresti_caffo(*counts, level=1 - 2 * LOWER_TAIL, pseudo_counts="level")[0] > threshold


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1), st.floats(-0.1, 1), st.sampled_from([0.05, 0.01, 0.2]))
def test_the_p_value_is_below_alpha_where_the_bound_is_above_the_margin(n, certain, possible, margin, alpha) -> None:
    counts = sorted([round(certain * n), round(possible * n)])
    found = PrevalenceBounds(*(np.array([float(x)]) for x in (n, counts[0], counts[1], counts[0])), threshold=0.25)
    low, high, p = found.lower(alpha)[0], found.upper(alpha)[0], found.p_value(margin)[0]
    assert 0 <= low <= high <= 1
    if abs(low - margin) > 1e-9:
        assert (p < alpha) == (low > margin)


def test_markov_by_hand() -> None:
    found = PrevalenceBounds(*(np.array([x]) for x in (1000.0, 120.0, 190.0, 100.0)), threshold=0.25)
    assert found.upper(0.05)[0] == pytest.approx(0.19 / (1 - 0.0025 / 0.05))
    assert found.p_value(0.05)[0] == pytest.approx(1e-4 * 0.95 / 0.05)
    assert found.lower(1e-4)[0] == 0
    assert found.upper(0.0025)[0] == 1


@pytest.mark.parametrize("n_models", [50, 100, 400])
@pytest.mark.parametrize("fraction", [0.5, 0.7])
def test_ends_of_single_examples_miss_as_rarely_as_the_bounds_assume(n_models, fraction) -> None:
    """Exact, over the binomial laws of both arms at their expected sizes, for an example at the threshold."""
    n_in, n_out = round(fraction * n_models), round((1 - fraction) * n_models)
    arms = np.meshgrid(np.arange(n_in + 1), np.arange(n_out + 1), indexing="ij")
    below, above = (end(arms[0], n_in, arms[1], n_out) for end in (upper_below(0.25), lower_above(0.25)))
    worst = [0.0, 0.0]
    for p_in in np.linspace(0.26, 0.999, 24):
        laws = (
            stats.binom.pmf(np.arange(n_in + 1), n_in, p_in),
            stats.binom.pmf(np.arange(n_out + 1), n_out, p_in - 0.25),
        )
        worst = [max(old, float(laws[0] @ missed @ laws[1])) for old, missed in zip(worst, (below, above), strict=True)]
    print(f"M={n_models}, r={fraction}: {worst[0] / UPPER_TAIL:.2f} and {worst[1] / LOWER_TAIL:.2f} of what is assumed")
    assert worst[0] <= 1.1 * UPPER_TAIL
    assert worst[1] <= 1.1 * LOWER_TAIL


@pytest.mark.parametrize("share", [0.05, 0.3])
@pytest.mark.parametrize("shared", [False, True])
def test_bounds_hold_in_simulation(share, shared) -> None:
    rng = np.random.default_rng(3)
    n_models, n, repeats = 100, 200, 200
    n_memorized = int(share * n)
    missed = [0, 0]
    for _ in range(repeats):
        mask = rng.random((n_models, n)) < 0.7
        # just at the threshold and just below it: as hard as can be
        out = np.where(np.arange(n) < n_memorized, 0.65, 0.68)
        u = np.repeat(rng.random((n_models, 1)), n, axis=1) if shared else rng.random((n_models, n))
        correct = u < np.where(mask, 0.9, out)
        found = prevalence_bounds(correct, mask, np.zeros(n, dtype=int), n_groups=1)
        missed[0] += found.upper(0.05)[0] < share
        missed[1] += found.lower(0.05)[0] > share
    assert max(missed) <= 0.05 * repeats


def test_no_interval_is_without_width_and_clear_cases_are_decided() -> None:
    n = np.array([20.0, 20.0, 3.0, 0.0])
    counts = np.array([0.0, 20.0, 3.0, 0.0])
    found = PrevalenceBounds(n, counts, counts, counts, threshold=0.25)
    low, high = found.lower(0.05), found.upper(0.05)
    assert (low < high)[:3].all()
    assert high[0] == pytest.approx(1 / 20, rel=0.1)
    assert low[1] > 0.95
    assert low[2] > 0.8
    assert np.isnan([low[3], high[3]]).all()
    for margin in (0.1, 0.5):
        p = found.p_value(margin)
        assert ((p < 0.05) == (low > margin))[:3].all()
        assert (p < 0.05)[:3].tolist() == [False, True, True]
