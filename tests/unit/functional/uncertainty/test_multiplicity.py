"""Adjusted p-values against statsmodels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional.uncertainty import adjust_p_values

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "impact.json").read_text())["multiplicity"]


@pytest.mark.parametrize(("method", "key"), [("holm", "holm"), ("bh", "fdr_bh")])
def test_golden(method, key) -> None:
    p = np.array(GOLDEN["p"])
    assert adjust_p_values(p, method=method) == pytest.approx(GOLDEN[key], abs=1e-9)
    order = np.random.default_rng(0).permutation(len(p))
    assert adjust_p_values(p[order], method=method) == pytest.approx(np.array(GOLDEN[key])[order], abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12), alpha=st.floats(0.01, 0.2))
def test_rejections_are_those_of_the_step_procedures(p, alpha) -> None:
    ranked, m = sorted(p), len(p)
    stop = next((i for i, x in enumerate(ranked) if x > alpha / (m - i)), m)
    holm = adjust_p_values(p, method="holm")
    near = np.isclose(holm, alpha, atol=1e-9).any()
    assert near or (holm <= alpha).sum() == sum(x < ranked[stop] for x in p) if stop < m else (holm <= alpha).all()
    passed = [i + 1 for i, x in enumerate(ranked) if x <= alpha * (i + 1) / m]
    bh = adjust_p_values(p, method="bh")
    assert np.isclose(bh, alpha, atol=1e-9).any() or (bh <= alpha).sum() == max(passed, default=0)
    assert (holm >= bh - 1e-12).all()


def test_a_missing_p_value_stays_missing_and_counts() -> None:
    for method in ("holm", "bh"):
        found = adjust_p_values([0.01, np.nan, 0.02], method=method)
        assert np.isnan(found).tolist() == [False, True, False]
        assert found[0] > adjust_p_values([0.01, 0.02], method=method)[0]
    assert adjust_p_values([]).shape == (0,)
