"""Real data: digits with 5 % of the labels flipped, a model that fits them and one that does not."""

from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from tests.helpers.digits import N, audit, flipped_rows

N_FLIPPED = len(flipped_rows())


def test_memorization_tells_flipped_labels_where_the_model_fits_them(tmp_path: Path) -> None:
    report = audit(tmp_path, {"width": 256, "lr": 0.3, "momentum": 0.9}, epochs=60, n_models=60)
    result, flipped = report.memorization, np.isin(np.arange(N), flipped_rows())
    known = ~np.isnan(result.score)
    assert roc_auc_score(flipped[known], result.score[known]) >= 0.98
    assert report.content["memorization"]["fit"]["status"] == "fitted"
    assert result.in_accuracy[flipped].mean() > 0.9
    assert sum(row["index"] in flipped_rows() for row in report.content["memorization"]["top"]) >= 18


def test_a_model_that_does_not_fit_them_is_said_not_to(tmp_path: Path) -> None:
    report = audit(tmp_path, {"width": 128, "lr": 0.05, "momentum": 0.0}, epochs=30, n_models=20)
    result, fit = report.memorization, report.content["memorization"]["fit"]
    flipped = np.isin(np.arange(N), flipped_rows())
    assert result.in_accuracy[flipped].mean() < 0.15
    assert fit["status"] == "partly fitted"
    assert fit["n_not_fitted"] >= 0.9 * N_FLIPPED
    assert "not *not memorized*" in report.to_markdown()
    assert "PARTLY FITTED" in report.summary()
