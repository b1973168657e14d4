"""PIE and taxicab exemplars against golden values, and odds by memorization."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_memaudit.functional.impact import exemplar_odds, exemplars, taxicab_exemplars
from lightning_memaudit.functional.memorization import MEMORIZATION_BINS, memorization_bins

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "hooker.json").read_text())["pie"]
BASE, TREATED = np.array(GOLDEN["preds_base"]), np.array(GOLDEN["preds_comp"])


def test_golden() -> None:
    largest, smallest = (exemplars(BASE, TREATED, n_labels=4, tie=tie) for tie in ("largest", "smallest"))
    assert largest.base_mode.tolist() == GOLDEN["modal_base_tie_max"]
    assert largest.treated_mode.tolist() == GOLDEN["modal_comp_tie_max"]
    assert smallest.base_mode.tolist() == GOLDEN["modal_base_tie_min"]
    assert largest.exemplar.astype(int).tolist() == GOLDEN["pie_mask_tie_max"]
    assert smallest.exemplar.astype(int).tolist() == GOLDEN["pie_mask_tie_min"]
    assert (largest.tie, smallest.tie) == ("largest", "smallest")
    assert largest.n_if_other_rule == smallest.exemplar.sum() != largest.exemplar.sum()
    assert (largest.exemplar != smallest.exemplar)[~largest.tied].sum() == 0
    assert taxicab_exemplars(BASE, TREATED) == pytest.approx(GOLDEN["taxicab"], abs=1e-9)
    assert taxicab_exemplars(BASE, TREATED) / 2 == pytest.approx(GOLDEN["tv"], abs=1e-9)


def test_accuracy_on_exemplars_golden() -> None:
    labels, mask = np.array(GOLDEN["y"]), exemplars(BASE, TREATED).exemplar
    for arm, name in ((BASE, "base"), (TREATED, "comp")):
        right = arm == labels
        for rows, part in ((slice(None), "all"), (mask, "pie"), (~mask, "nonpie")):
            assert right[:, rows].mean() == pytest.approx(GOLDEN[f"acc_{name}_{part}"], abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), k0=st.integers(1, 6), k1=st.integers(1, 6), labels=st.integers(1, 4))
def test_against_a_loop(seed, k0, k1, labels) -> None:
    rng = np.random.default_rng(seed)
    base, treated = rng.integers(0, labels, (k0, 8)), rng.integers(0, labels, (k1, 8))
    found, distance = exemplars(base, treated, n_labels=labels), taxicab_exemplars(base, treated)
    for i in range(8):
        modes = []
        for arm, margins in ((base, found.base_margin), (treated, found.treated_margin)):
            counts = [int((arm[:, i] == label).sum()) for label in range(labels)]
            modes.append(max(range(labels), key=lambda label: (counts[label], label)))
            ranked = [*sorted(counts, reverse=True), 0]
            assert margins[i] == pytest.approx((ranked[0] - ranked[1]) / len(arm))
        assert found.exemplar[i] == (modes[0] != modes[1])
        expected = sum(abs((base[:, i] == x).mean() - (treated[:, i] == x).mean()) for x in range(labels))
        assert distance[i] == pytest.approx(expected)
    assert (exemplars(treated, base).exemplar == found.exemplar).all()


def test_odds_by_memorization() -> None:
    rng = np.random.default_rng(0)
    mem = np.concatenate([np.full(300, 0.05), np.full(100, 0.6), np.full(20, 0.9), [np.nan] * 5])
    flags = rng.random(425) < np.where(mem > 0.5, 0.4, 0.1)
    flags[400:420] = True
    found = exemplar_odds(flags, mem)
    assert found.edges.tolist() == list(MEMORIZATION_BINS)
    assert found.n.tolist() == [300, 0, 0, 100, 20]
    assert found.n_unscored == 5
    low, mid = flags[:300].sum(), flags[300:400].sum()
    assert found.n_exemplars.tolist() == [low, 0, 0, mid, 20]
    assert found.odds[3] == pytest.approx(mid / (100 - mid))
    assert found.low[3] < found.odds[3] < found.high[3]
    assert (found.odds[4], found.ratio[0]) == (np.inf, 1)
    assert np.isnan([found.odds[1], found.ratio[1], found.low[1]]).all()
    assert np.isfinite(found.low[4])
    # Exact: the bound at which Fisher's conditional law of the count has its tail at .025.
    table = (420 - 20, 100, low + mid)
    tail = stats.nchypergeom_fisher.sf(mid - 1, *table[:1], table[2], table[1], found.ratio_low[3])
    assert tail == pytest.approx(0.025, rel=1e-3)
    assert found.ratio_low[3] < found.ratio[3] < found.ratio_high[3]


def test_bins() -> None:
    codes, edges = memorization_bins([-1.5, -1, 0.0999, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, np.nan])
    assert codes.tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4, -1]
    assert len(edges) == 6
