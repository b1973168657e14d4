"""Influence mass, dense and sparse."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_memaudit.functional.influence import influence, influence_mass
from lightning_memaudit.functional.memorization import memorization_score


def test_against_a_loop_dense_and_sparse() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((60, 30)) < 0.7
    mask[:, 4] = True
    correct = rng.random((60, 30)) < 0.3 + 0.6 * mask * (np.arange(30) < 12)
    test = np.where(rng.random((60, 8)) < 0.8, mask[:, :8], rng.random((60, 8)) < 0.5)
    mem = memorization_score(correct, mask).score
    dense = influence(test, mask)
    expected = [sum(dense[i, j] for i in range(30) if mem[i] >= 0.25 and dense[i, j] >= 0.15) for j in range(8)]
    assert influence_mass(dense, mem) == pytest.approx(expected, abs=1e-6)
    pairs = influence(test, mask, threshold=0.15)
    assert influence_mass(pairs, mem, n_test=8) == pytest.approx(expected, abs=1e-6)
    assert max(expected) > 0.5
    assert np.isnan(mem[4])
    assert (influence_mass(dense, mem, influence_threshold=1) == 0).all()
