"""The two-way interval against the analysis of variance by loops, Tango's interval, and its own algebra."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_memaudit.functional.intervals import tango
from lightning_memaudit.functional.uncertainty import TwoWay, against_rest, example_means, summarise, two_way
from lightning_memaudit.functional.uncertainty._crossed import crossed
from lightning_memaudit.functional.uncertainty._flips import Flips
from lightning_memaudit.functional.uncertainty._two_way import reach

GOLDEN = Path(__file__).parents[3] / "golden"
DEGENERATE = json.loads((GOLDEN / "impact.json").read_text())["paired_degenerate_95"]
PAIRED = json.loads((GOLDEN / "intervals.json").read_text())["paired_95"]
seeds = st.integers(0, 2**32 - 1)


def mean_squares(table: np.ndarray) -> tuple[float, float]:
    """MS of models and of the residual, cell by cell, as a textbook has them."""
    k, n = table.shape
    grand = sum(table[a, i] for a in range(k) for i in range(n)) / (k * n)
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    models = sum(n * (rows[a] - grand) ** 2 for a in range(k)) / (k - 1)
    left = sum((table[a, i] - rows[a] - columns[i] + grand) ** 2 for a in range(k) for i in range(n))
    return models, left / ((k - 1) * (n - 1))


def together(between: list[float], models: list[int], tail: float) -> float:
    """Squared half-width from arms of K models: added squares, lowered by Satterthwaite's where there are two."""
    squares = [stats.t.isf(tail, k - 1) ** 2 * b for b, k in zip(between, models, strict=True)]
    if min(squares) == 0 or len(squares) == 1:
        return sum(squares)
    df = sum(squares) ** 2 / sum(s**2 / (k - 1) for s, k in zip(squares, models, strict=True))
    return min(sum(squares), np.sqrt(sum(squares) * stats.t.isf(tail, df) ** 2 * sum(between)))


def textbook(base: np.ndarray, treated: np.ndarray, *, paired: bool, level: float = 0.95):
    """The formula of the two-way interval, written out."""
    n, tail = base.shape[1], (1 - level) / 2
    d = base.mean(axis=0) - treated.mean(axis=0)
    tables = (base - treated,) if paired else (base, treated)
    found = [[x / (n * len(table)) for x in mean_squares(table)] for table in tables]
    t2 = stats.t.isf(tail, n - 1) ** 2
    models = together([between for between, _ in found], [len(table) for table in tables], tail)
    square = t2 * sum((x - d.mean()) ** 2 for x in d) / (n - 1) / n
    half = np.sqrt(square + max(models - t2 * sum(within for _, within in found), 0))
    return d.mean() - half, d.mean() + half


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n", [40, 90])
def test_normal_form_is_the_textbook_formula(paired, n) -> None:
    rng = np.random.default_rng(n)
    ability = rng.normal(0, 0.1, (12, 1))
    base = (rng.random((12, n)) < 0.7 + ability).astype(float)
    treated = (rng.random((12 if paired else 5, n)) < 0.6).astype(float)
    codes = np.arange(n) % 2
    found = two_way([base, treated], (1, -1), codes, n_groups=2, paired=paired, form="normal")
    assert found.model_variance.max() > 0
    low, high = found.interval()
    for g in (0, 1):
        expected = textbook(base[:, codes == g], treated[:, codes == g], paired=paired)
        assert [low[g], high[g]] == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=seeds, k=st.integers(2, 6), n=st.integers(2, 12))
def test_variance_of_models_is_that_of_the_table(seed, k, n) -> None:
    table = np.random.default_rng(seed).random((k, n))
    models, left = mean_squares(table)
    found = crossed(table, table.mean(axis=0), np.zeros(n, dtype=int), n_groups=1)
    assert found.variance()[0] == pytest.approx((models - left) / (n * k), abs=1e-12)


def test_variance_of_models_is_unbiased_with_missing_cells() -> None:
    rng = np.random.default_rng(0)
    k, n, groups = 10, 30, 1500
    table = rng.normal(0, 1, (k, n * groups)) + np.repeat(rng.normal(0, 0.3, (k, groups)), n, axis=1)
    table[rng.random(table.shape) < 0.5] = np.nan
    there = ~np.isnan(table).all(axis=0)
    table, codes = table[:, there], np.repeat(np.arange(groups), n)[there]
    count = (~np.isnan(table)).sum(axis=0)
    found = crossed(table, example_means(table), codes, n_groups=groups).variance()
    error = found.std() / np.sqrt(groups)
    # The variance of an effect, .09, times the sum of squared weights of the models in the mean.
    weights = np.stack([np.bincount(codes, weights=w, minlength=groups) for w in ~np.isnan(table) / count])
    target = 0.09 * np.square(weights / np.bincount(codes)).sum(axis=0).mean()
    assert found.mean() == pytest.approx(target, abs=3 * error)


def test_least_squares_of_a_full_table_is_the_usual_one() -> None:
    # One cell is missing in an example of another group, which sends the group through the general form.
    table = np.random.default_rng(2).random((4, 9))
    table[0, 8] = np.nan
    found = crossed(table, example_means(table), np.repeat([0, 1], [5, 4]), n_groups=2).variance()
    models, left = mean_squares(table[:, :5])
    assert found[0] == pytest.approx((models - left) / 20, abs=1e-12)


def test_rest_is_the_complement() -> None:
    rng = np.random.default_rng(1)
    table = rng.random((4, 20))
    table[rng.random(table.shape) < 0.2] = np.nan
    codes, means = rng.integers(0, 3, 20), example_means(table)
    rest = crossed(table, means, codes, n_groups=3).rest()
    for g in range(3):
        alone = crossed(table[:, codes != g], means[codes != g], np.zeros((codes != g).sum(), dtype=int), n_groups=1)
        assert rest.variance()[g] == pytest.approx(alone.variance()[0], abs=1e-12)


@pytest.mark.parametrize("case", DEGENERATE, ids=lambda c: f"{c['a']}-{c['b']}-{c['c']}-{c['d']}")
@pytest.mark.parametrize("models", [(1, 1), (3, 3), (2, 7)])
def test_groups_without_flips_have_tangos_interval(case, models) -> None:
    row = np.repeat([1.0, 0.0], [case["a"], case["d"]])
    tables = [np.tile(row, (k, 1)) for k in models]
    for paired in (False, True) if models[0] == models[1] else (False,):
        low, high = two_way(tables, (1, -1), np.zeros(len(row), dtype=int), n_groups=1, paired=paired).interval()
        assert [low[0], high[0]] == pytest.approx(case["tango"], abs=1e-9)


@pytest.mark.parametrize("case", PAIRED, ids=lambda c: f"{c['a']}-{c['b']}-{c['c']}-{c['d']}")
def test_one_model_an_arm_is_tangos_interval(case) -> None:
    counts = [case[name] for name in "abcd"]
    base, treated = (np.repeat(cells, counts)[None].astype(float) for cells in ([1, 1, 0, 0], [1, 0, 1, 0]))
    for paired in (False, True):
        low, high = two_way(
            [base, treated], (1, -1), np.zeros(sum(counts), dtype=int), n_groups=1, paired=paired
        ).interval()
        assert [low[0], high[0]] == pytest.approx(case["tango"], abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, k0=st.integers(1, 5), k1=st.integers(1, 5), n=st.integers(1, 30), p=st.floats(0, 1))
def test_algebra(seed, k0, k1, n, p) -> None:
    rng = np.random.default_rng(seed)
    tables = [(rng.random((k, n)) < q).astype(float) for k, q in ((k0, p), (k1, p / 2))]
    codes = rng.integers(0, 2, n)
    found, mirrored = two_way(tables, (1, -1), codes, n_groups=3), two_way(tables[::-1], (1, -1), codes, n_groups=3)
    (low, high), (other_low, other_high) = found.interval(), mirrored.interval()
    there = found.n > 0
    assert low == pytest.approx(-other_high, abs=1e-9, nan_ok=True)
    assert high == pytest.approx(-other_low, abs=1e-9, nan_ok=True)
    assert (np.isnan(low) == ~there).all()
    assert np.isnan(found.p_value()[~there]).all()
    low, high, estimate = low[there], high[there], found.estimate[there]
    assert (low >= -1).all()
    assert (high <= 1).all()
    assert (low < high).all()
    assert (low <= estimate + 1e-9).all()
    assert (estimate <= high + 1e-9).all()
    wide_low, wide_high = (end[there] for end in found.interval(0.99))
    assert (wide_low <= low + 1e-9).all()
    assert (wide_high >= high - 1e-9).all()


def test_flips_of_one_size_are_tangos_counts_of_that_size() -> None:
    # All 30 flips are by one half of the models, so that φ tends to 1/2 as they are many.
    base, treated = np.ones((2, 4000)), np.ones((2, 4000))
    treated[0, :30], treated[1, 30:60] = 0, 0
    found = two_way([base, treated], (1, -1), np.zeros(4000, dtype=int), n_groups=1)
    assert found.score.all()
    low, high = found.interval()
    size = (15 + 0.25) / (30 + 0.25)
    expected = [size * float(x) for x in tango(30 / size, 0, 4000)]
    # The two models are equally accurate, so nothing is added for them.
    assert [low[0], high[0]] == pytest.approx(expected, abs=1e-9)


def test_score_and_normal_forms_agree_where_many_flip() -> None:
    rng = np.random.default_rng(3)
    base, treated = rng.random((1, 20000)) < 0.9, rng.random((1, 20000)) < 0.8
    codes = np.zeros(20000, dtype=int)
    score = two_way([base, treated], (1, -1), codes, n_groups=1).interval()
    normal = two_way([base, treated], (1, -1), codes, n_groups=1, form="normal").interval()
    assert score[0] != normal[0]
    assert np.ravel(score) == pytest.approx(np.ravel(normal), rel=0.01)


@pytest.mark.parametrize("form", ["auto", "normal"])
@pytest.mark.parametrize("margin", [0.0, 0.05, -0.1])
def test_p_values_invert_the_interval(form, margin) -> None:
    rng = np.random.default_rng(4)
    tables = [rng.random((6, 300)) < p for p in (0.95, 0.9)]
    found = two_way(tables, (1, -1), np.arange(300) % 5, n_groups=5, form=form)
    checked = 0
    for alternative, end, sides in (("two-sided", None, 1), ("greater", 0, 2), ("less", 1, 2)):
        for g, p in enumerate(found.p_value(margin, alternative=alternative)):
            if sides * p < 0.99:
                ends = found.interval(1 - sides * p)
                nearest = min(abs(x[g] - margin) for x in (ends if end is None else [ends[end]]))
                assert nearest == pytest.approx(0, abs=1e-9)
                checked += 1
    assert checked >= 8
    one, other = (found.p_value(margin, alternative=side) for side in ("greater", "less"))
    assert one + other == pytest.approx(np.ones(5))


def test_p_value_is_students_where_all_models_agree() -> None:
    rng = np.random.default_rng(5)
    tables = [np.tile(rng.random(200) < p, (8, 1)) for p in (0.7, 0.5)]
    found = two_way(tables, (1, -1), np.zeros(200, dtype=int), n_groups=1)
    assert not found.score[0]
    p = stats.ttest_rel(tables[0][0].astype(float), tables[1][0].astype(float)).pvalue
    assert found.p_value()[0] == pytest.approx(p, rel=1e-9)


MODELS = (2, 3, 10, 100)


@pytest.mark.parametrize("tail", [0.05, 0.025, 0.005])
def test_bound_for_two_arms_of_few_models_misses_no_more_than_it_says(tail) -> None:
    # Mean and both variances are normal and chi-squared; the share of the first arm in the variance is unknown.
    middles = (np.arange(100) + 0.5) / 100
    for first, second in itertools.combinations_with_replacement(MODELS, 2):
        found = [stats.chi2.ppf(middles, k - 1) / (k - 1) for k in (first, second)]
        for share in (0.02, 0.1, 0.4, 0.8, 0.98):
            between = np.stack(np.broadcast_arrays(share * found[0][:, None], (1 - share) * found[1])).reshape(2, -1)
            size = between.shape[1]
            square = of_models(between, (first, second)).model_squares(np.asarray(tail))
            missed = stats.norm.sf(np.sqrt(square)).mean()
            assert missed <= tail * (1.02 if tail > 0.01 else 1.06), (first, second, share, size)


def test_examples_and_models_together_never_miss_more_than_apart() -> None:
    # The probability of covering is concave in the shares of the variance, so it is least where one has all of it.
    middles = (np.arange(300) + 0.5) / 300
    square = stats.t.isf(0.025, 2) ** 2 * stats.chi2.ppf(middles, 2) / 2
    covered = [
        1 - 2 * stats.norm.sf(np.sqrt((1 - share) * stats.norm.isf(0.025) ** 2 + share * square)).mean()
        for share in np.linspace(0, 1, 21)
    ]
    assert min(covered) == pytest.approx(0.95, abs=1e-3)


def of_models(between: np.ndarray, models: tuple[int, int]) -> TwoWay:
    """A result whose variance comes from the models of two arms alone."""
    size = between.shape[1]
    zero = np.zeros(size)
    return TwoWay(
        n=np.full(size, 1e9),
        estimate=zero,
        example_variance=zero,
        between=between,
        within=np.zeros_like(between),
        models_df=np.repeat(np.array(models) - 1.0, size).reshape(2, size),
        score=zero > 0,
        skewness=zero,
        covers_models=zero == 0,
        flips=Flips(*[zero] * 7),
        scale=1.0,
    )


def test_skewness_lengthens_the_side_that_it_points_to() -> None:
    rng = np.random.default_rng(7)
    codes = np.arange(60) % 2
    hard = rng.random(60) ** 4
    tables = [rng.random((20, 60)) < p for p in (np.full(60, 0.9), 0.9 - 0.8 * hard)]
    found, plain = (two_way(tables, (1, -1), codes, n_groups=2, form=form) for form in ("auto", "normal"))
    d = tables[0].mean(axis=0) - tables[1].mean(axis=0)
    for g in (0, 1):
        x, variance = d[codes == g], plain.example_variance[g] + plain.model_variance[g]
        kappa = stats.kstat(x, 3) / 30**2 / variance**1.5 * (1 + 8 / 30)
        assert kappa > 0.1
        assert not found.score[g]
        assert found.skewness[g] == pytest.approx(kappa)
        (down, up), (plain_down, plain_up) = (f.half_widths(np.array(0.05)) for f in (found, plain))
        assert down[g] == plain_down[g]
        more = kappa * (2 * stats.norm.isf(0.05) ** 2 + 1) / 6 * np.sqrt(variance)
        assert up[g] == pytest.approx(plain_up[g] + more)
        p = found.p_value(0.25, alternative="less")[g]
        assert found.interval(1 - 2 * p)[1][g] == pytest.approx(0.25, abs=1e-9)
    assert (plain.skewness == 0).all()


def test_flips_of_many_sizes_lengthen_the_score_form_and_those_of_one_size_do_not() -> None:
    codes = np.zeros(60, dtype=int)
    wrong = np.zeros((10, 60), dtype=bool)
    wrong[:, :4], wrong[:2, 4:14] = True, True  # four whole flips, ten small ones
    found = two_way([np.ones((10, 60)), ~wrong], (1, -1), codes, n_groups=1)
    d = wrong.mean(axis=0)
    size = ((d**2).sum() + 0.25) / (d.sum() + 0.25)
    even = size**2 * d.sum() / 60 - 3 * d.mean() * size * d.sum() / 60 + 2 * d.mean() ** 3
    lacking = stats.kstat(d, 3) - even * 60**2 / (59 * 58)
    variance = found.example_variance[0] + found.model_variance[0]
    assert found.score[0]
    assert found.skewness[0] == pytest.approx(lacking / 60**2 / variance**1.5 * (1 + 8 / 60))
    assert found.skewness[0] > 0.03
    bound = found.interval(0.9)[1][0]
    assert found.p_value(bound, alternative="less")[0] == pytest.approx(0.05, abs=1e-9)
    wrong[2:, 4:14] = True
    same = two_way([np.ones((10, 60)), ~wrong], (1, -1), codes, n_groups=1)
    assert same.score[0]
    assert same.skewness[0] == 0


def test_excess_is_one_contrast_of_all_examples() -> None:
    rng = np.random.default_rng(6)
    base, treated = (rng.random((9, 400)) < 0.7).astype(float), (rng.random((7, 400)) < 0.6).astype(float)
    codes = rng.integers(0, 3, 400)
    seen, parts = summarise([base, treated], (1, -1), codes, n_groups=3, paired=False)
    found = against_rest(seen, parts, scale=1.0)
    excess, (low, high) = found.estimate, found.interval()
    d = base.mean(axis=0) - treated.mean(axis=0)
    for g in range(3):
        inside = codes == g
        weights = inside / inside.sum() - 1 / 400
        assert excess[g] == pytest.approx(weights @ d, abs=1e-12)
        # By the definition: spread of examples about their own side, and of the contrast over models.
        sides = (inside, ~inside)
        square = sum(
            stats.t.isf(0.025, side.sum() - 1) ** 2 * (weights[side] ** 2).sum() * d[side].var(ddof=1) for side in sides
        )
        left = sum(
            (weights[s] ** 2).sum() * mean_squares(table[:, s])[1] / len(table)
            for s in sides
            for table in (base, treated)
        )
        between = [(table @ weights).var(ddof=1) / len(table) for table in (base, treated)]
        t2 = stats.t.isf(0.025, max(side.sum() for side in sides) - 1) ** 2
        half = np.sqrt(square + max(together(between, [9, 7], 0.025) - t2 * left, 0))
        assert [low[g], high[g]] == pytest.approx([excess[g] - half, excess[g] + half], abs=1e-9)


def test_excess_of_a_single_group_is_no_claim() -> None:
    seen, parts = summarise([np.ones((3, 5)), np.ones((3, 5))], (1, -1), np.zeros(5, int), n_groups=2, paired=False)
    found = against_rest(seen, parts, scale=1.0)
    excess, (low, high) = found.estimate, found.interval()
    assert excess[0] == 0
    assert np.isnan([low[0], high[0], excess[1], low[1]]).all()
    assert np.isnan(found.p_value(0.1)).all()


def test_reach_is_the_largest_contrast() -> None:
    assert [reach((1, -1)), reach((1, -2, 1))] == [1, 2]
