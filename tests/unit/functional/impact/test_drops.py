"""The drop of each group: fields, degenerate groups, missing outcomes, and the other intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_memaudit.functional.impact import accuracy_drop, value_drop
from lightning_memaudit.functional.uncertainty import two_way

GOLDEN = Path(__file__).parents[3] / "golden"
PAIRED = json.loads((GOLDEN / "intervals.json").read_text())["paired_95"]
DEGENERATE = json.loads((GOLDEN / "impact.json").read_text())["paired_degenerate_95"]


def arms(seed=0, models=(6, 4), n=120, accuracy=(0.9, 0.7)):
    rng = np.random.default_rng(seed)
    return [rng.random((k, n)) < p for k, p in zip(models, accuracy, strict=True)]


def test_fields_are_what_they_say() -> None:
    base, treated = arms()
    codes = np.arange(120) % 3
    found = accuracy_drop(base, torch.tensor(treated), torch.tensor(codes), n_groups=5)
    d = base.mean(axis=0) - treated.mean(axis=0)
    for g in range(3):
        inside = codes == g
        assert found.n[g] == 40
        assert found.base[g] == pytest.approx(base[:, inside].mean())
        assert found.treated[g] == pytest.approx(treated[:, inside].mean())
        assert found.drop[g] == pytest.approx(d[inside].mean())
        assert found.excess[g] == pytest.approx(d[inside].mean() - d.mean())
        assert found.relative[g] == pytest.approx(d[inside].mean() / base[:, inside].mean())
        low, high = found.two_way.interval()
        assert (found.low[g], found.high[g]) == (low[g], high[g])
        assert found.excess_low[g] < found.excess[g] < found.excess_high[g]
        assert found.relative_low[g] < found.relative[g] < found.relative_high[g]
    assert found.group.tolist() == [0, 1, 2, 3, 4]
    assert found.n[3:].tolist() == [0, 0]
    assert found.method[3:] == ("none", "none")
    fields = ("base", "treated", "drop", "low", "high", "excess", "excess_low", "relative", "relative_low")
    assert np.isnan([getattr(found, name)[3:] for name in fields]).all()
    assert np.isnan(found.p_value()[3:]).all()
    assert found.covers_models.tolist() == [True, True, True, False, False]
    assert (found.n_models, found.level) == ((6, 4), 0.95)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), paired=st.booleans())
def test_swapping_arms_mirrors_and_order_does_not_matter(seed, paired) -> None:
    base, treated = arms(seed, (4, 4), 30)
    codes = np.random.default_rng(seed).integers(0, 3, 30)
    one = accuracy_drop(base, treated, codes, paired=paired, n_groups=3)
    other = accuracy_drop(treated, base, codes, paired=paired, n_groups=3)
    for low, high in (("low", "high"), ("excess_low", "excess_high")):
        assert getattr(one, low) == pytest.approx(-getattr(other, high), abs=1e-9, nan_ok=True)
    order, rows = np.random.default_rng(seed).permutation(30), np.random.default_rng(seed).permutation(4)
    shuffled = accuracy_drop(base[rows][:, order], treated[rows][:, order], codes[order], paired=paired, n_groups=3)
    for name in ("low", "high", "excess_low", "excess_high", "relative_low", "relative_high"):
        assert getattr(shuffled, name) == pytest.approx(getattr(one, name), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("case", DEGENERATE, ids=lambda c: f"{c['a']}-{c['b']}-{c['c']}-{c['d']}")
@pytest.mark.parametrize("interval", ["two-way", "tango", "newcombe"])
@pytest.mark.parametrize("models", [1, 3])
def test_degenerate_groups_never_have_an_empty_interval(case, interval, models) -> None:
    row = np.tile(np.repeat([1, 0], [case["a"], case["d"]]), (models, 1))
    found = accuracy_drop(row, row, np.zeros(row.shape[1], dtype=int), interval=interval)
    assert [found.low[0], found.high[0]] == pytest.approx(case["tango"], abs=1e-9)
    assert found.method == ({"two-way": "tango"}.get(interval, interval),)
    assert found.covers_models.tolist() == [models > 1 and interval == "two-way"]
    assert found.relative_high[0] > 0 > found.relative_low[0]


@pytest.mark.parametrize("case", PAIRED, ids=lambda c: f"{c['a']}-{c['b']}-{c['c']}-{c['d']}")
@pytest.mark.parametrize("interval", ["two-way", "tango", "newcombe"])
def test_one_model_an_arm_golden(case, interval) -> None:
    counts = [case[name] for name in "abcd"]
    base, treated = (np.repeat(cells, counts)[None] for cells in ([1, 1, 0, 0], [1, 0, 1, 0]))
    found = accuracy_drop(base, treated, np.zeros(sum(counts), dtype=int), interval=interval)
    flips = case["b"] + case["c"]
    key = "newcombe10" if interval == "newcombe" and flips else "tango"
    assert [found.low[0], found.high[0]] == pytest.approx(case[key], abs=1e-9)
    assert found.covers_models.tolist() == [False]
    assert found.drop[0] == pytest.approx((case["b"] - case["c"]) / sum(counts), abs=1e-12)


def test_one_model_in_one_arm_is_said_and_wider_than_its_examples_alone() -> None:
    base, treated = arms(1, (1, 20), 200)
    found = accuracy_drop(base, treated, np.zeros(200, dtype=int))
    assert (found.method, found.covers_models.tolist()) == (("tango",), [False])
    assert found.high[0] - found.low[0] >= 2 * 1.9 * np.sqrt(found.two_way.example_variance[0])


@pytest.mark.parametrize("paired", [False, True])
def test_types_may_differ_between_arms(paired) -> None:
    base, treated = arms(7, (4, 4), 50)
    found = accuracy_drop(base, treated, np.zeros(50, dtype=np.uint8), paired=paired)
    for first, second in ((base.astype(np.float32), treated), (base.astype(int), torch.tensor(treated).half())):
        other = accuracy_drop(first, second, np.zeros(50), paired=paired)
        assert (other.low, other.excess, other.relative_high) == (found.low, found.excess, found.relative_high)


def test_missing_outcomes() -> None:
    base, treated = (arm.astype(float) for arm in arms(2, (6, 6), 60))
    base[:, 3] = np.nan
    treated[0, 7] = np.nan
    codes = np.arange(60) % 2
    found = accuracy_drop(base, treated, codes)
    assert found.n.tolist() == [30, 29]
    assert found.n_missing.tolist() == [0, 1]
    inside = (codes == 1) & (np.arange(60) != 3)
    expected = (base[:, inside].mean(axis=0) - np.nanmean(treated[:, inside], axis=0)).mean()
    assert found.drop[1] == pytest.approx(expected)
    # Paired arms judge only the cells that both have.
    paired = accuracy_drop(base, treated, codes, paired=True)
    both = np.where(np.isnan(base - treated), np.nan, base)
    assert paired.base[1] == pytest.approx(np.nanmean(both[:, inside], axis=0).mean())
    assert paired.drop[1] == pytest.approx(np.nanmean((base - treated)[:, inside], axis=0).mean())
    half = np.ones((3, 8))
    half[1:, 4:] = np.nan
    sparse = accuracy_drop(half, np.ones((3, 8)), np.repeat([0, 1], 4))
    assert sparse.covers_models.tolist() == [True, False]
    nothing = accuracy_drop(np.full((2, 3), np.nan), np.ones((2, 3)), [0, 0, 1])
    assert nothing.n.tolist() == [0, 0]
    assert nothing.n_missing.tolist() == [2, 1]
    assert np.isnan(nothing.low).all()


def test_missing_cells_keep_coverage() -> None:
    # Each model is judged on a random 30 % of the examples, as one trained on the other 70 % is.
    rng = np.random.default_rng(0)
    repeats, n, k, truth = 1500, 40, 10, 0.15
    codes = np.repeat(np.arange(repeats), n)
    hard = rng.normal(0, 0.1, repeats * n)
    made = [np.repeat(rng.normal(0, 0.03, (k, repeats)), n, axis=1) for _ in range(2)]
    tables = [rng.random((k, repeats * n)) < p + hard + m for p, m in zip((0.75, 0.6), made, strict=True)]
    seen = rng.random((k, repeats * n)) < 0.3
    for paired in (False, True):
        first, second = (np.where(seen, table, np.nan) for table in tables)
        found = accuracy_drop(first, second, codes, paired=paired)
        coverage = ((found.low <= truth) & (truth <= found.high)).mean()
        width = (found.high - found.low).mean() / (2 * stats.t.isf(0.025, 9) * found.drop.std())
        print(f"paired={paired}: coverage {coverage:.3f}, width {width:.2f}, missing {found.n_missing.sum()}")
        assert coverage >= 0.94 - 0.017
        assert width <= 1.25


def test_fractions_and_other_levels() -> None:
    rng = np.random.default_rng(3)
    base, treated = rng.random((5, 80)), rng.random((5, 80)) * 0.8
    narrow, wide = (accuracy_drop(base, treated, np.zeros(80, int), level=level) for level in (0.9, 0.99))
    assert wide.low[0] < narrow.low[0] < narrow.drop[0] < narrow.high[0] < wide.high[0]
    assert wide.relative_low[0] < narrow.relative_low[0]
    assert wide.excess_low.shape == (1,)


def test_normal_form_on_request() -> None:
    base, treated = arms(4, (5, 5), 40, (0.99, 0.97))
    found = accuracy_drop(base, treated, np.zeros(40, int), interval="normal")
    low, high = two_way([base, treated], (1, -1), np.zeros(40, int), n_groups=1, form="normal").interval()
    assert (found.low, found.high, found.method) == (low, high, ("two-way",))
    assert accuracy_drop(base, treated, np.zeros(40, int)).method == ("tango",)
    single = accuracy_drop(np.ones((3, 2)), np.zeros((3, 2)), [0, 1], interval="normal")
    assert np.isnan(single.low).all()


def test_bootstrap_is_about_the_doubled_residual_too_wide() -> None:
    base, treated = arms(5, (10, 10), 100, (0.8, 0.7))
    codes = np.zeros(100, int)
    boot = accuracy_drop(base, treated, codes, interval="bootstrap", seed=1)
    again = accuracy_drop(base, treated, codes, interval="bootstrap", seed=1)
    normal = accuracy_drop(base, treated, codes)
    assert (boot.low, boot.method) == (again.low, ("bootstrap",))
    assert boot.covers_models.all()
    ratio = (boot.high[0] - boot.low[0]) / (normal.high[0] - normal.low[0])
    assert 1.2 < ratio < 1.7
    # For outcomes that are noise alone the variance is counted three times: models, examples, and what is left.
    paired = accuracy_drop(base, treated, codes, interval="bootstrap", paired=True)
    assert paired.low[0] < paired.drop[0] < paired.high[0]
    assert np.isnan(accuracy_drop(base, treated, codes, interval="bootstrap", n_groups=2).low[1])


def test_value_drop_is_the_normal_form_without_bounds() -> None:
    rng = np.random.default_rng(6)
    base, treated = rng.exponential(1, (6, 90)), rng.exponential(2, (4, 90)) + 3
    codes = np.arange(90) % 2
    found = value_drop(base, treated, codes, n_groups=3)
    whole = two_way([base, treated], (1, -1), codes, n_groups=3, form="normal")
    half = whole.half_widths(np.array(0.025))[0]
    assert found.drop[:2] == pytest.approx(whole.estimate[:2])
    assert found.low[:2] == pytest.approx((whole.estimate - half)[:2])
    assert found.low[0] < -1
    assert np.isnan(found.low[2])
    shifted = value_drop(base + 1e6, treated + 1e6, codes)
    assert shifted.low == pytest.approx(found.low[:2], abs=1e-6)
    assert found.p_value()[:2].max() < 1e-3
    assert np.isnan(found.p_value()[2])
    flat = value_drop(np.ones((2, 3)), np.ones((2, 3)), [0, 0, 0])
    assert np.isnan([flat.low[0], flat.high[0]]).all()


ONES = np.ones((2, 3))
