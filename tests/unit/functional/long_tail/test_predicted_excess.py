"""From misfits to an excess error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional.long_tail import (
    expected_count,
    expected_mass,
    good_turing_tau,
    label_confidence,
    marginal,
    predicted_excess,
    tau,
    zipf,
)


def test_all_points_missed_is_all_the_mass_that_was_seen() -> None:
    law, n = marginal(zipf(30)), 25
    ells = np.arange(1, n + 1)
    counts, taus = expected_count(law, n, ells), tau(law, n, ells)
    assert predicted_excess(taus, counts, ell=ells) == pytest.approx(float(expected_mass(law, n, ells).sum()))
    # a subpopulation with l examples has l of them missed
    assert predicted_excess(taus, counts * ells, ell=ells, unit="subpopulation") == pytest.approx(
        predicted_excess(taus, counts, ell=ells)
    )
    assert predicted_excess(taus, counts, ell=ells, coupling=0.5, confidence=0.5) == pytest.approx(
        predicted_excess(taus, counts, ell=ells) / 4
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=60))
def test_a_prediction_never_exceeds_one(counts: list[int]) -> None:
    ells, points = np.unique(counts, return_counts=True)
    taus = good_turing_tau(counts, ells)
    assert 0 <= predicted_excess(taus, points * ells, ell=ells, unit="subpopulation") <= 1
    assert predicted_excess(np.ones(len(ells)), points, ell=ells) == 1.0


def test_nan_where_points_are_missed_whose_tau_is_not_known() -> None:
    assert math.isnan(predicted_excess([np.nan, 0.1], [1, 1], ell=[1, 2]))
    assert predicted_excess([np.nan, 0.1], [0, 1], ell=[1, 2]) == pytest.approx(0.1)
    assert predicted_excess(torch.tensor([0.1]), torch.tensor([2.0]), ell=torch.tensor([1])) == pytest.approx(0.2)


def test_label_confidence() -> None:
    assert label_confidence(0.1) == pytest.approx(0.9)
    assert label_confidence(0.1, test_labels="noisy") == pytest.approx(0.81)
    # Bayes: a label seen once, noise .4 over 5 classes
    seen, other = 0.6 + 0.4 / 5, 0.4 / 5
    assert label_confidence(0.4) == pytest.approx(seen - other)
