"""The small form of the digits of ``tests/system/test_digits.py``: fewer of them, and fewer models."""

from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from tests.helpers.digits import audit, flipped_rows


def test_memorization_tells_flipped_labels_where_the_model_fits_them(tmp_path: Path) -> None:
    n = 400
    report = audit(tmp_path, {"width": 128, "lr": 0.3, "momentum": 0.9}, epochs=40, n_models=20, n=n)
    result, flipped = report.memorization, np.isin(np.arange(n), flipped_rows(n))
    known = ~np.isnan(result.score)
    assert roc_auc_score(flipped[known], result.score[known]) >= 0.97
    assert report.content["memorization"]["fit"]["status"] == "fitted"
    assert result.in_accuracy[flipped].mean() > 0.9
