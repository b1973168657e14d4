import numpy as np
import pytest

from lightning_memaudit.record import Record
from lightning_memaudit.sections.impact import impact_section
from tests.helpers.treated import TreatedStore

NINE_TO_ONE = float(np.log(9))
LABELS = {"train": np.arange(12) % 2, "test": np.arange(10) % 2}
GROUPS = {"g": {"train": ["a"] * 12, "test": ["a"] * 5 + ["b"] * 5}}


def calibration(tmp_path, base, treated, *, confidence=NINE_TO_ONE, groups=GROUPS, n_classes=2):
    known = TreatedStore(tmp_path, LABELS, groups, n_classes=n_classes)
    train = {"train": np.ones((len(base), 12), dtype=bool)}
    for arm, correct in (("baseline", base), ("dpsgd-eps3", treated)):
        known.fill(arm, {"test": correct, **train}, margin={"test": np.where(correct, confidence, -confidence)})
    return impact_section(Record(known.store)).to_dict()["arms"]["dpsgd-eps3"]["calibration"]


def outcomes(n_models, n_wrong):
    correct = np.ones((n_models, 10), dtype=bool)
    correct[:, :n_wrong] = False
    return correct


def test_gaps_of_two_classes_by_hand(tmp_path) -> None:
    # every answer is given with .9; in group a one of five is wrong before and three after
    found = calibration(tmp_path, outcomes(3, 1), outcomes(3, 3))
    rows = {row["group"]: row for row in found["by_group"]["g"]}
    assert rows["a"]["base"]["gap"] == pytest.approx(0.9 - 0.8, abs=1e-6)
    assert rows["a"]["treated"]["gap"] == pytest.approx(0.9 - 0.4, abs=1e-6)
    assert rows["a"]["treated"]["ece"] == pytest.approx(0.5, abs=1e-6)
    assert rows["a"]["gap_change"]["change"] == pytest.approx(0.4, abs=1e-6)
    assert rows["a"]["gap_change"]["low"] < 0.4 < rows["a"]["gap_change"]["high"]
    assert rows["b"]["treated"]["gap"] == pytest.approx(-0.1, abs=1e-6)
    assert rows["b"]["treated"]["gap_low"] is None  # nothing varies: no width is no interval
    assert rows["b"]["n"] == 5


def test_one_model_has_the_interval_over_examples(tmp_path) -> None:
    rows = calibration(tmp_path, outcomes(1, 1), outcomes(1, 3))["by_group"]["g"]
    assert rows[0]["treated"]["gap_low"] < 0.5 < rows[0]["treated"]["gap_high"]
    assert rows[0]["gap_change"]["low"] is None


def test_more_classes_without_confidences_say_what_is_missing(tmp_path) -> None:
    found = calibration(tmp_path, outcomes(2, 1), outcomes(2, 3), n_classes=3)
    assert found["reason"].startswith("the confidence of predictions is not on record")


def test_more_classes_have_the_confidence_of_the_prediction(tmp_path) -> None:
    rng = np.random.default_rng(0)
    known = TreatedStore(tmp_path, LABELS, GROUPS, n_classes=3)
    drawn = {arm: (rng.random((3, 10)) < 0.6, rng.uniform(0.4, 1, (3, 10))) for arm in ("baseline", "dpsgd-eps3")}
    for arm, (correct, confidence) in drawn.items():
        splits = {"test": correct, "train": np.ones((3, 12), dtype=bool)}
        known.fill(arm, splits, confidence={"test": confidence})
    found = impact_section(Record(known.store)).to_dict()["arms"]["dpsgd-eps3"]["calibration"]
    rows = {row["group"]: row for row in found["by_group"]["g"]}
    for group, columns in (("a", slice(5)), ("b", slice(5, 10))):
        for side, arm in (("base", "baseline"), ("treated", "dpsgd-eps3")):
            correct, confidence = (values[:, columns] for values in drawn[arm])
            assert rows[group][side]["gap"] == pytest.approx(confidence.mean() - correct.mean(), abs=1e-6)
            bins = np.minimum((confidence.astype(np.float32).astype(np.float64) * 15).astype(int), 14)
            by_model = [
                sum(abs((c[b == k] - p[b == k]).sum()) for k in range(15)) / 5
                for c, p, b in zip(correct, confidence, bins, strict=True)
            ]
            assert rows[group][side]["ece"] == pytest.approx(np.mean(by_model), abs=1e-6)


def test_margins_that_two_classes_cannot_have_are_noticed(tmp_path) -> None:
    # right with a probability below one half: there is a third class that nobody predicts
    found = calibration(tmp_path, outcomes(2, 1), outcomes(2, 3), confidence=-NINE_TO_ONE)
    assert found["status"] == "unavailable"
