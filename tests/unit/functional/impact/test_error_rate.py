import numpy as np
import pytest
from scipy import stats

from lightning_memaudit.functional.impact import accuracy_drop, error_rate
from lightning_memaudit.functional.intervals import clopper_pearson, wilson
from lightning_memaudit.functional.uncertainty import OneSided


def test_an_error_rate_is_the_drop_from_a_model_that_is_always_right() -> None:
    rng = np.random.default_rng(0)
    correct, codes = rng.random((6, 300)) < 0.9, np.arange(300) % 3
    found = error_rate(correct, codes)
    drop = accuracy_drop(np.ones_like(correct), correct, codes, paired=True)
    np.testing.assert_allclose(found.error.estimate, drop.drop)
    np.testing.assert_allclose(found.error.interval(0.9), drop.two_way.interval(0.9))
    np.testing.assert_allclose(found.gap.estimate, drop.excess)
    np.testing.assert_allclose(found.gap.estimate, correct.mean() - [correct[:, codes == g].mean() for g in range(3)])


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_few_errors_of_one_model_have_wilson_bounds(wrong) -> None:
    correct = np.arange(60) >= wrong
    found = error_rate(correct[None], np.zeros(60, dtype=int)).error
    assert found.interval(0.9)[1][0] == pytest.approx(wilson(wrong, 60, level=0.9)[1], abs=1e-9)
    exact = OneSided(found, one_way=True)
    down, up = exact.half_widths(np.asarray(0.05))
    ends = clopper_pearson(wrong, 60, level=0.9)
    assert [exact.estimate[0] - down[0], exact.estimate[0] + up[0]] == pytest.approx(
        [float(end) for end in ends], abs=1e-9
    )
    at_most = stats.binomtest(wrong, 60, 0.01, alternative="greater").pvalue
    if wrong > 0.01 * 60:
        assert exact.p_value(0.01)[0] == pytest.approx(at_most, abs=1e-9)


def test_examples_that_no_model_is_judged_on_are_counted() -> None:
    correct = np.array([[1.0, np.nan, 0.0], [np.nan, np.nan, 1.0]])
    found = error_rate(correct, [0, 0, 1], n_groups=3)
    assert found.n_missing.tolist() == [1, 0, 0]
    assert found.error.n.tolist() == [1, 1, 0]
    assert found.error.estimate[:2].tolist() == [0, 0.5]


@pytest.mark.parametrize(("accuracy", "n_models", "n"), [(0.98, 8, 40), (0.9, 8, 60), (0.95, 1, 60), (0.7, 20, 40)])
def test_one_sided_bounds_miss_about_as_often_as_they_say(accuracy, n_models, n) -> None:
    """A probit law with shared difficulty of examples and quality of models; one group a repetition."""
    rng, repeats = np.random.default_rng(7), 2000
    noise = [rng.standard_normal((k, repeats, m)) for k, m in ((1, n), (n_models, 1), (n_models, n))]
    quality = 0.05 if n_models > 1 else 0.0
    z = sum(np.sqrt(share) * x for share, x in zip((0.5, quality, 0.5 - quality), noise, strict=True))
    correct = (z < stats.norm.ppf(accuracy)).reshape(n_models, -1)
    found = OneSided(error_rate(correct, np.repeat(np.arange(repeats), n)).error, one_way=True)
    down, up = found.half_widths(np.asarray(0.05))
    low, high, truth = found.estimate - down, found.estimate + up, 1 - accuracy
    missed = [(high < truth - 1e-9).mean(), (low > truth + 1e-9).mean()]
    print(f"accuracy {accuracy}, {n_models} models, {n} examples: misses {missed[0]:.3f} and {missed[1]:.3f}")
    assert max(missed) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
