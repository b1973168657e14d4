"""Fieller's interval of the relative drop."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_memaudit.functional.impact import accuracy_drop
from lightning_memaudit.functional.uncertainty import two_way


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_limits_are_the_ratios_at_which_the_contrast_reaches_zero(paired, seed) -> None:
    rng = np.random.default_rng(seed)
    ability = rng.normal(0, 0.15, (10, 1))
    other = rng.normal(0, 0.15, (10, 1))
    base, treated = rng.random((10, 150)) < 0.7 + ability, rng.random((10, 150)) < 0.45 + ability / 2 + other
    codes = np.zeros(150, dtype=int)
    found = accuracy_drop(base, treated, codes, paired=paired)
    assert found.method == ("two-way",)
    assert found.two_way.model_variance[0] > 0
    for ratio in (found.relative_low[0], found.relative_high[0]):
        contrast = two_way([base, treated], (1 - ratio, -1), codes, n_groups=1, paired=paired, form="normal")
        # For two arms the factor for their models is that of the drop, which is not quite that of the contrast.
        near = 1e-6 if paired else 0.03
        assert contrast.half_widths(np.array(0.025))[0] == pytest.approx(np.abs(contrast.estimate), rel=near)


def test_ends_are_unknown_where_the_base_accuracy_may_be_zero() -> None:
    found = accuracy_drop(np.eye(2, 12), np.zeros((2, 12)), np.zeros(12, dtype=int))
    assert found.relative[0] == 1
    assert np.isnan([found.relative_low[0], found.relative_high[0]]).all()
    none = accuracy_drop(np.zeros((4, 12)), np.zeros((4, 12)), np.zeros(12, dtype=int))
    assert np.isnan(none.relative[0])


def test_coverage() -> None:
    rng = np.random.default_rng(0)
    for k, n, p, q in ((5, 40, 0.7, 0.5), (20, 60, 0.9, 0.85), (20, 60, 0.99, 0.97)):
        repeats = 1500
        shape, codes = (k, repeats * n), np.repeat(np.arange(repeats), n)
        hard = rng.normal(0, 0.05, repeats * n) * (p < 0.95)
        made = [np.repeat(rng.normal(0, 0.02, (k, repeats)), n, axis=1) * (p < 0.95) for _ in range(2)]
        base, treated = (rng.random(shape) < a + hard + m for a, m in zip((p, q), made, strict=True))
        # The probabilities stay within [0, 1] but for a negligible part, so that the means are p and q.
        found = accuracy_drop(base, treated, codes)
        truth = (p - q) / p
        coverage = ((found.relative_low <= truth) & (truth <= found.relative_high)).mean()
        print(f"K={k} n={n} {p}->{q}: coverage of the relative drop {coverage:.3f}")
        assert coverage >= 0.94 - 0.017
