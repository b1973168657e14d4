"""Bounds on a private prediction against a linear program over all mechanisms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from lightning_memaudit.functional.long_tail import group_privacy, prediction_bound


def best_mechanism(epsilon: float, delta: float, m: int, adjacency: str) -> float:
    """Largest mean of Pr[h = y | label y] over mechanisms whose rows are pairwise (ε, δ)-close.

    Rows: one for each label of the example, and for add/remove one without it. (ε, δ)-closeness of P to Q is
    Σ_z max(P_z − e^ε Q_z, 0) ≤ δ, written with a slack for each z.
    """
    rows = m + (adjacency == "add-remove")
    if adjacency == "label":
        pairs = [(i, j) for i in range(m) for j in range(m) if i != j]
    else:
        pairs = [pair for i in range(m) for pair in ((i, m), (m, i))]
    n_probabilities = rows * m
    upper, limits = [], []
    for index, (i, j) in enumerate(pairs):
        budget = np.zeros(n_probabilities + len(pairs) * m)
        for z in range(m):
            excess = np.zeros_like(budget)
            slack = n_probabilities + index * m + z
            excess[[i * m + z, j * m + z, slack]] = 1, -math.exp(epsilon), -1
            upper.append(excess)
            limits.append(0.0)
            budget[slack] = 1
        upper.append(budget)
        limits.append(delta)
    sums = np.zeros((rows, len(upper[0])))
    for row in range(rows):
        sums[row, row * m : (row + 1) * m] = 1
    gain = np.zeros(len(upper[0]))
    gain[[y * m + y for y in range(m)]] = 1 / m
    solved = linprog(-gain, A_ub=np.array(upper), b_ub=limits, A_eq=sums, b_eq=np.ones(rows), bounds=(0, None))
    assert solved.status == 0
    return -solved.fun


@pytest.mark.parametrize("adjacency", ["label", "add-remove"])
@pytest.mark.parametrize("m", [2, 4, 5])
@pytest.mark.parametrize("delta", [0.0, 0.01, 0.4, 1.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 3.0])
def test_sharp_is_the_linear_program(epsilon: float, delta: float, m: int, adjacency: str) -> None:
    found = prediction_bound(epsilon, delta, n_classes=m, bound="sharp", adjacency=adjacency)
    assert found == pytest.approx(best_mechanism(epsilon, delta, m, adjacency), abs=1e-8)


def test_documented_figures() -> None:
    assert f"{prediction_bound(1, n_classes=4, bound='sharp', adjacency='label'):.3f}" == "0.475"
    assert f"{prediction_bound(1, n_classes=4, bound='sharp'):.3f}" == "0.680"
    assert prediction_bound(math.log(6), n_classes=10) == pytest.approx(0.6)
    assert prediction_bound(math.log(6), n_classes=10, bound="sharp", adjacency="label") == pytest.approx(0.4)


@settings(deadline=None)
@given(st.floats(0, 1000), st.floats(0, 1), st.integers(2, 1000), st.sampled_from(["label", "add-remove"]))
def test_bounds_are_probabilities_in_order(epsilon: float, delta: float, m: int, adjacency: str) -> None:
    paper = prediction_bound(epsilon, delta, n_classes=m, adjacency=adjacency)
    sharp = prediction_bound(epsilon, delta, n_classes=m, bound="sharp", adjacency=adjacency)
    assert 1 / m - 1e-12 <= sharp <= paper + 1e-12
    assert paper <= 1
    assert prediction_bound(epsilon + 0.1, delta, n_classes=m, bound="sharp", adjacency=adjacency) >= sharp - 1e-12


def test_groups() -> None:
    assert group_privacy(1.0, 1e-5, 1) == (1.0, pytest.approx(1e-5))
    assert group_privacy(0.5, 1e-5, 3) == (1.5, pytest.approx(3e-5 * math.e))
    # at least the exact sum along the chain
    assert group_privacy(0.5, 1e-5, 3)[1] >= 1e-5 * (1 + math.exp(0.5) + math.exp(1.0))
    assert group_privacy(100.0, 1e-9, 1000) == (100_000.0, 1.0)
    assert group_privacy(5.0, 0.0, 10**6) == (5e6, 0.0)
