"""The test of Hooker et al. against scipy and statsmodels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit.functional.impact import hooker_test

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "hooker.json").read_text())


def outcomes(name: str) -> np.ndarray:
    """Counts of right examples by model and class, as 0/1 outcomes."""
    size = GOLDEN["input"]["N_per_class"]
    return np.array([np.concatenate([np.arange(size) < k for k in row]) for row in GOLDEN["input"][name]])


BASE, TREATED = outcomes("correct_base"), outcomes("correct_comp")
CLASSES = np.repeat(np.arange(8), 50)


@pytest.mark.parametrize("shift", ["per_model", "population_mean"])
def test_golden(shift) -> None:
    found = hooker_test(BASE, TREATED, CLASSES, shift=shift)
    expected = GOLDEN[shift]["classes"]

    def near(values, key):
        assert values == pytest.approx([row[key] for row in expected], abs=1e-9)

    near(found.t, "t")
    near(found.df, "df")
    near(found.p, "p")
    near(found.p_holm, "p_holm")
    near(found.p_bh, "p_fdr_bh")
    near(found.drop, "raw_drop")
    near(found.relative_drop, "rel_drop")
    assert np.stack([found.low, found.high], 1) == pytest.approx(np.array([row["ci"] for row in expected]), abs=1e-9)
    summary = GOLDEN[shift]["summary"]
    assert [(p < 0.05).sum() for p in (found.p, found.p_holm, found.p_bh)] == [
        summary[f"n_sig_{name}"] for name in ("raw", "holm", "fdr_bh")
    ]
    assert (found.n.tolist(), found.shift) == ([50] * 8, shift)


def test_untouched_classes_look_like_gains_when_two_collapse() -> None:
    rng = np.random.default_rng(0)
    base, treated = (rng.random((10, 400)) < 0.8 for _ in range(2))
    treated[:, CLASSES >= 6] = rng.random((10, 100)) < 0.2
    found = hooker_test(base, treated, CLASSES)
    assert (found.relative_drop[:6] < -0.1).all()
    assert (found.p_holm[:6] < 0.05).all()
    assert np.abs(found.drop[:6]).max() < 0.1


def test_classes_that_do_not_vary_or_are_not_there_are_undecided_and_count() -> None:
    base, treated = np.ones((3, 6)), np.ones((4, 6))
    base[0, 5] = treated[0, 4] = 0
    found = hooker_test(base, treated, [0, 0, 1, 1, 2, 2], shift="population_mean", n_groups=4)
    assert np.isnan(found.p).tolist() == [True, True, False, True]
    assert np.isnan(found.low).tolist() == [True, True, False, True]
    assert found.p_holm[2] == pytest.approx(min(1, 4 * found.p[2]))
