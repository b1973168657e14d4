"""Calibration by group against torchmetrics and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from lightning_memaudit.functional.impact import calibration_by_group


@pytest.mark.parametrize("n_bins", [5, 15])
def test_ece_is_that_of_torchmetrics(n_bins) -> None:
    rng = np.random.default_rng(0)
    logits, labels, groups = rng.normal(0, 2, (500, 4)), rng.integers(0, 4, 500), rng.integers(0, 3, 500)
    probabilities = torch.softmax(torch.tensor(logits), 1)
    top = probabilities.max(1)
    found = calibration_by_group(top.values, top.indices.numpy() == labels, groups, n_groups=4, n_bins=n_bins)
    for g in range(3):
        rows = groups == g
        oracle = multiclass_calibration_error(probabilities[rows], torch.tensor(labels[rows]), 4, n_bins=n_bins)
        assert found.ece[g] == pytest.approx(float(oracle), abs=1e-6)
        assert found.gap[g] == pytest.approx(found.confidence[g] - found.accuracy[g])
        assert found.gap_low[g] < found.gap[g] < found.gap_high[g]
    assert found.n[3] == 0
    assert np.isnan([found.ece[3], found.gap[3], found.gap_low[3], found.ece_if_calibrated[3]]).all()
    binary = torch.tensor(rng.random(200) * 0.999)
    right = rng.random(200) < 0.5
    alone = calibration_by_group(binary, right, np.zeros(200, int), n_groups=1, n_bins=n_bins)
    assert alone.ece[0] == pytest.approx(float(binary_calibration_error(binary, torch.tensor(right).int(), n_bins)))


def test_a_calibrated_model_shows_what_is_predicted_and_its_gap_covers_zero() -> None:
    rng = np.random.default_rng(1)
    repeats = 1000
    for n in (20, 200):
        score = np.round(0.5 + 0.5 * rng.random(repeats * n), 6)
        found = calibration_by_group(
            score, rng.random(repeats * n) < score, np.repeat(np.arange(repeats), n), n_groups=repeats
        )
        ratio = found.ece.mean() / found.ece_if_calibrated.mean()
        coverage = ((found.gap_low <= 0) & (found.gap_high >= 0)).mean()
        print(f"n={n}: ECE {found.ece.mean():.3f}, {ratio:.2f} of what is predicted; gap covers {coverage:.3f}")
        assert ratio == pytest.approx(1, abs=0.08)
        assert coverage >= 0.94
        assert found.ece.mean() > 0.02


def test_full_confidence_is_in_the_last_bin_and_never_certain() -> None:
    found = calibration_by_group([1.0, 1.0], [1, 1], [0, 0], n_groups=1)
    assert (found.ece[0], found.ece_if_calibrated[0]) == (0, 0)
    assert found.gap_high[0] - found.gap_low[0] > 0.5
